#!/usr/bin/env bash
# A bundle runs by itself: in an empty environment, elsewhere, with every library but libc's taken from the bundle.
. "$(dirname "$0")/lib.sh"
build=$(dirname "$(dirname "$seodang")")
bundle=$work/moved/bundle
ok "$root/scripts/bundle" "$work/bundle" --build "$build"
mkdir "$work/moved" && mv "$work/bundle" "$bundle"
cd "$work/moved" || fail "cd"
alone=(env -i PATH=/usr/bin:/bin LD_LIBRARY_PATH= HOME="$work" OMP_WAIT_POLICY=passive)

# Nothing is found outside, but what belongs to libc.
for program in "$bundle"/bin/*; do
    "${alone[@]}" ldd "$program" > "$work/ldd" || fail "ldd $program"
    outside=$(awk '$2 == "=>" && $3 != "" { print $1, $3 }' "$work/ldd" | grep -vE " $bundle/(bin/\.\./)?lib/" |
        grep -vE '^(libc|libm|libpthread|libdl|librt|libresolv)\.so')
    [ -z "$outside" ] || fail "$program takes from outside the bundle: $outside"
    if grep 'not found' "$work/ldd"; then fail "$program lacks libraries"; fi
done

# The program and a unit test run; a tiny model is trained.
ok "${alone[@]}" "$bundle/bin/seodang" --help
says out 'usage: seodang'
ok "${alone[@]}" "$bundle/bin/test_kernels_device"
make_text book.txt 500
make_config tiny.yaml
ok "${alone[@]}" "$bundle/bin/seodang" tokenizer train --vocab-size 257 --out bytes.json book.txt
ok "${alone[@]}" "$bundle/bin/seodang" data build --tokenizer bytes.json --out data --held-out 0.1 book.txt
ok "${alone[@]}" "$bundle/bin/seodang" train tiny.yaml --out run
[ -s run/checkpoints/step-00000024/manifest.json ] || fail "no checkpoint"

# A library that is missing in it is missed: what ran above did run on the bundle's own.
mv "$bundle/lib/libjansson.so.4" "$bundle/lib/hidden"
says_missing=$("${alone[@]}" ldd "$bundle/bin/seodang" | grep libjansson)
mv "$bundle/lib/hidden" "$bundle/lib/libjansson.so.4"
[[ $says_missing != *"$bundle"* ]] || fail "libjansson is found in the bundle without being there"

# The check finds no GPU, says so in one line, and writes nothing. Hide a real one.
exits 2 "${alone[@]}" CUDA_VISIBLE_DEVICES= "$bundle/scripts/gpu_check"
says err 'no GPU to check'
[ "$(wc -l < "$work/err")" = 1 ] || fail "more than one line: $(cat "$work/err")"
exits 2 "${alone[@]}" CUDA_VISIBLE_DEVICES= "$bundle/scripts/gpu_check" --bundle "$bundle"
[ ! -e "$bundle/runs" ] || fail "a report without a GPU"

# Tried out on the CPU: a part passes, one that needs a GPU is skipped, aloud, and the report is there.
ok "${alone[@]}" "$bundle/scripts/gpu_check" --device cpu --out report ptx memory
says out 'ptx +SKIP'
says out 'memory +PASS'
python3 - report/gpu_check.json << 'CHECK' || fail "the report: $(cat report/gpu_check.json)"
import json, sys
report = json.load(open(sys.argv[1]))
assert [(p["part"], p["state"]) for p in report["parts"]] == [("ptx", "SKIP"), ("memory", "PASS")], report
assert report["device"]["name"].startswith("cpu"), report
CHECK

# What is in the way is left alone.
mkdir full && touch full/mine
exits 1 "$root/scripts/bundle" full --build "$build"
[ -e full/mine ] || fail "a folder that is no bundle was emptied"
