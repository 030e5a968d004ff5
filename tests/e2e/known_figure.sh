#!/usr/bin/env bash
# A known figure: nanoGPT's CPU recipe on tiny Shakespeare reaches a validation loss of 1.90 or less in 2,000 steps (its README
# says 1.88). Takes minutes; needs tinyshakespeare.txt in $SEODANG_TEST_DATA.
. "$(dirname "$0")/lib.sh"
text=${SEODANG_TEST_DATA:-}/tinyshakespeare.txt
[ -r "$text" ] || { echo "skipped: no $text (set SEODANG_TEST_DATA)"; exit 77; }
ok "$seodang" tokenizer train --vocab-size 257 --out "$work/bytes.json" "$text"
ok "$seodang" data build --tokenizer "$work/bytes.json" --out "$work/data" --held-out 0.1 --held-out-mode tail "$text"
ok "$seodang" train "$root/configs/shakespeare-char.yaml" --set "data.path=$work/data" --out "$work/run"
ok "$seodang" eval "$work/run" --data "$work/data" --split held-out --json
python3 -c '
import json, sys
loss = json.load(open(sys.argv[1]))["loss"]
print(f"held-out loss {loss:.4f}")
sys.exit(not loss <= 1.90)' "$work/out" || fail "validation loss above 1.90"
