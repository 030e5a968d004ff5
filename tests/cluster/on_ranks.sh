#!/usr/bin/env bash
# A dataset and a configuration for one of the Python tests here, and that test: on_ranks.sh PROGRAM ROOT TEST.py [arguments...].
# The global batch is 8 slots of 2 sequences, for 1, 2, 4 or 8 ranks.
. "$(dirname "$0")/../e2e/lib.sh"
test=$(cd "$(dirname "$0")" && pwd)/$3
make_data
make_config "$work/tiny.yaml"
sed -i 's/micro_batch: 8/micro_batch: 2/' "$work/tiny.yaml"
cd "$work" && python3 "$test" "$seodang" "$work" "${@:4}"
rc=$?
[ $rc = 0 ] || [ $rc = 77 ] || fail "$3"
exit $rc
