#!/usr/bin/env bash
# Killed at random instants and resumed each time: the same metrics and parameters. The third argument: how many kills.
. "$(dirname "$0")/lib.sh"
make_data
make_config "$work/tiny.yaml"
python3 "$(dirname "$0")/kill_resume.py" "$seodang" "$work" "${3:-20}" || fail "kill and resume"
