#!/usr/bin/env bash
# Power cuts under a run. Arguments after the program and the source root: what power_cuts.py takes.
. "$(dirname "$0")/../e2e/lib.sh"
make_data
make_config "$work/tiny.yaml"
python3 "$(dirname "$0")/power_cuts.py" "$seodang" "$work" "${@:3}"
rc=$?
[ $rc = 0 ] || [ $rc = 77 ] || fail "power cuts"
exit $rc
