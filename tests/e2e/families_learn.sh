#!/usr/bin/env bash
# Each small preset learns: its held-out loss lies clearly under what needs no context. Takes minutes for each; needs the Austen novels
# and the King James text in $SEODANG_TEST_DATA.
. "$(dirname "$0")/lib.sh"
data=${SEODANG_TEST_DATA:-}
for book in pd-austen-six-novels pd-kjv; do
    [ -r "$data/$book.txt" ] || { echo "skipped: no $data/$book.txt (set SEODANG_TEST_DATA)"; exit 77; }
done
python3 "$(dirname "$0")/families_learn.py" "$seodang" "$root" "$work" "$data" "${@:3}"
