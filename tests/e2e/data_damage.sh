#!/usr/bin/env bash
# Damaged datasets as a user meets them: verify names every place and exits 1.
. "$(dirname "$0")/lib.sh"
make_text "$work/book.txt" 4000
ok "$seodang" tokenizer train --vocab-size 257 --out "$work/bytes.json" "$work/book.txt"
ok "$seodang" data build --tokenizer "$work/bytes.json" --out "$work/whole" --held-out 0.1 --held-out-mode tail "$work/book.txt"
ok "$seodang" data verify "$work/whole"
says out 'no damage'
ok "$seodang" data inspect "$work/whole" --json
python3 - "$work/out" "$work/book.txt" <<'CHECK' || fail "inspect --json"
import json, os, sys
r = json.load(open(sys.argv[1]))
size = os.path.getsize(sys.argv[2])
assert sum(s["bytes"] for s in r["splits"]) == size, r["splits"]
assert sum(s["train_tokens"] + s["held_out_tokens"] for s in r["sources"]) == sum(s["tokens"] for s in r["splits"])
assert [s["bytes"] for s in r["sources"]] == [size]
assert r["vocab_size"] == 257 and len(r["manifest_sha256"]) == 64
CHECK

# damaged NAME PYTHON: a copy of the dataset, changed by a Python expression over d, its folder.
damaged() {
    rm -rf "$work/d"
    cp -r "$work/whole" "$work/d"
    (cd "$work/d" && python3 -c "
import os, sys
def flip(name, at):
    with open(name, 'r+b') as f:
        f.seek(at); b = f.read(1); f.seek(at); f.write(bytes([b[0] ^ 1]))
$1") || fail "cannot damage"
    exits 1 "$seodang" data verify "$work/d"
}

damaged "flip('train-00000.h5', 4096 + 65536 * 2 + 5)"
says err 'train-00000\.h5: block 1 is damaged \(bytes 135168 to '
says err 'in 1 place,'
damaged "flip('train-00000.h5', 5000); flip('held-out-00000.h5', 40)"
says err 'train-00000\.h5: block 0 is damaged'
says err 'held-out-00000\.h5: damaged'
says err 'in 2 places,'
damaged "os.truncate('train-00000.h5', 10000)"
says err 'train-00000\.h5: has 10000 bytes'
damaged "os.remove('held-out-00000.h5')"
says err 'held-out-00000\.h5: the manifest names this shard'
damaged "t = open('manifest.json').read(); open('manifest.json', 'w').write(t.replace('257', '258'))"
says err 'manifest\.json: was edited or damaged'
damaged "os.rename('train-00000.h5', 'x'); os.rename('held-out-00000.h5', 'train-00000.h5'); os.rename('x', 'held-out-00000.h5')"
says err 'train-00000\.h5: holds the content of held-out-00000\.h5'

exits 1 "$seodang" data inspect "$work/d"
exits 1 "$seodang" data verify "$work/no-such-folder"
says err 'data build'
exits 2 "$seodang" data verify
exits 2 "$seodang" data inspect "$work/whole" --jsno
says err 'json'
