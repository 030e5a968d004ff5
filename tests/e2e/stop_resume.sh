#!/usr/bin/env bash
# Signals that stop a run, a second run on one folder, a changed configuration.
. "$(dirname "$0")/lib.sh"
make_data
make_config "$work/tiny.yaml"
python3 "$(dirname "$0")/stop_resume.py" "$seodang" "$work" || fail "stop and resume"
