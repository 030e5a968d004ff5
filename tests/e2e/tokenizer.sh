#!/usr/bin/env bash
# The tokenizer verbs as users type them: training on any number of threads, round trips, mistakes by place, closed pipes.
. "$(dirname "$0")/lib.sh"
tok() { "$seodang" tokenizer "$@"; }

# Training: files, folders and compressed JSONL, the same bytes on 1 and 2 threads.
mkdir "$work/books"
make_text "$work/books/one.txt" 3000
make_text "$work/book.txt" 500
python3 - "$work/book.txt" > "$work/two.jsonl" <<'JSONL'
import json, sys
for line in open(sys.argv[1]):
    print(json.dumps({"text": line}))
JSONL
gzip -c "$work/two.jsonl" > "$work/books/two.jsonl.gz"
ok tok train --vocab-size 350 --threads 1 --out "$work/t.json" "$work/books"
says err '350 ids'
ok tok train --vocab-size 350 --threads 2 --out "$work/t2.json" "$work/books"
cmp "$work/t.json" "$work/t2.json" || fail "1 and 2 threads give different tokenizers"
ok tok train --vocab-size 100k --out "$work/most.json" "$work/books"
says err 'warning: the text gives only [0-9]+ merges'
exits 2 tok train --vocab-size 256 --out "$work/x.json" "$work/books"
says err '257'
exits 1 tok train --vocab-size 300 --out "$work/x.json" "$work/no-such-book.txt"
says err 'no-such-book.txt'
exits 1 tok train --vocab-size 300 --out "$work/no/x.json" "$work/books"
says err "folder '.*/no'"

# What is written is canonical, and its hash is that of the file.
ok tok convert --hf "$work/t.json" --out "$work/again.json"
cmp "$work/t.json" "$work/again.json" || fail "convert changed a canonical file"
ok tok inspect "$work/t.json"
says out "$(sha256sum "$work/t.json" | cut -d' ' -f1)"
exits 2 tok convert "$work/t.json" --out "$work/again.json"
exits 1 tok convert --hf "$work/book.txt" --out "$work/again.json"
says err 'book.txt:1:'

# A file is one line of ids and comes back, whatever its bytes; larger than what is read at a time.
(cat "$work/books/one.txt"; head -c 100000 /dev/urandom; for _ in 1 2 3 4 5 6 7 8; do cat "$work/books/one.txt"; done;
    head -c 1500000 /dev/zero | tr '\0' a; echo; cat "$work/books/one.txt") > "$work/mixed"
ok tok encode --tokenizer "$work/t.json" "$work/mixed"
cp "$work/out" "$work/ids"
[ "$(wc -l < "$work/ids")" = 1 ] || fail "encode: $(wc -l < "$work/ids") lines for a document"
ok tok decode --tokenizer "$work/t.json" "$work/ids"
cmp "$work/out" "$work/mixed" || fail "a file does not come back"
tok encode --tokenizer "$work/t.json" < "$work/mixed" | cmp - "$work/ids" || fail "standard input gives other ids"
: > "$work/empty"
ok tok encode --tokenizer "$work/t.json" "$work/empty"
[ "$(od -An -c "$work/out" | tr -d ' ')" = '\n' ] || fail "an empty file is an empty line"

# JSONL both ways; special tokens are text unless asked for.
ok tok encode --tokenizer "$work/t.json" --jsonl "$work/two.jsonl"
cp "$work/out" "$work/two.ids"
ok tok decode --tokenizer "$work/t.json" --jsonl "$work/two.ids"
cmp "$work/out" "$work/two.jsonl" || fail "JSONL does not come back"
printf '<|endoftext|>' > "$work/special"
ok tok encode --tokenizer "$work/t.json" --special "$work/special"
[ "$(cat "$work/out")" = 349 ] || fail "--special: $(cat "$work/out")"
ok tok encode --tokenizer "$work/t.json" "$work/special"
[ "$(wc -w < "$work/out")" -gt 5 ] || fail "a special token in a text is text: $(cat "$work/out")"

# Mistakes name file, line and column; what came before them is printed.
printf '{"text": "a\\u0000b"}\n\n{"text": "\\ud800"}\n' > "$work/surrogate.jsonl"
exits 1 tok encode --tokenizer "$work/t.json" --jsonl "$work/surrogate.jsonl"
says err 'surrogate.jsonl:3:[0-9]+: '
says out '"ids": \[97, 0, 98\]'
printf '{"txt": "a"}\n' > "$work/field.jsonl"
exits 1 tok encode --tokenizer "$work/t.json" --jsonl "$work/field.jsonl"
says err 'field.jsonl:1: .*"text"'
printf '1 2\n3 x4\n' > "$work/bad.ids"
exits 1 tok decode --tokenizer "$work/t.json" "$work/bad.ids"
says err "bad.ids:2:3: 'x4'"
printf '1 400\n' > "$work/large.ids"
exits 1 tok decode --tokenizer "$work/t.json" "$work/large.ids"
says err 'large.ids:1: .*400'
printf '{"ids": [255]}\n' > "$work/half.ids"
ok tok decode --tokenizer "$work/t.json" --jsonl "$work/half.ids"
says err 'warning: 1 line.*U\+FFFD'
exits 1 tok encode --tokenizer "$work/t.json" "$work/nothing-there"
says err 'nothing-there'
head -c 3000 "$work/t.json" > "$work/cut.json"
exits 1 tok encode --tokenizer "$work/cut.json" "$work/book.txt"
says err 'cut.json:[0-9]+:'

# A reader that goes away ends it without a word.
tok encode --tokenizer "$work/t.json" "$work/mixed" 2> "$work/err" | head -c 10 > /dev/null
[ -s "$work/err" ] && fail "a closed pipe: $(cat "$work/err")"
if [ -w /dev/full ]; then
    "$seodang" tokenizer encode --tokenizer "$work/t.json" "$work/book.txt" > /dev/full 2> "$work/err" && fail "a full disk is no error"
    says err 'No space left'
fi
exit 0
