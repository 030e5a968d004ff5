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

# Sets of special tokens and kinds; a misspelled one is told apart from the right one.
ok tok train --special roberta --vocab-size 350 --out "$work/roberta.json" "$work/books"
ok tok inspect --token '<mask>' "$work/roberta.json"
[ "$(cat "$work/out")" = 349 ] || fail "the id of <mask>: $(cat "$work/out")"
exits 2 tok inspect --token '<msak>' "$work/roberta.json"
says err "'<msak>' is not a special token .*did you mean '<mask>'\?"
printf 'a <mask>~' > "$work/masked"
ok tok encode --tokenizer "$work/roberta.json" --special "$work/masked"
[ "$(cat "$work/out")" = "101 349 130" ] || fail "a mask takes the space before it: $(cat "$work/out")"
exits 2 tok train --special robreta --vocab-size 350 --out "$work/x.json" "$work/books"
says err "did you mean 'roberta'\?"
exits 2 tok train --type wordpeice --vocab-size 350 --out "$work/x.json" "$work/books"
says err "did you mean 'wordpiece'\?"
exits 2 tok train --cased --vocab-size 350 --out "$work/x.json" "$work/books"
says err 'go with --type wordpiece'

# WordPiece: the same bytes on 1 and 2 threads; words come back, white space does not.
ok tok train --type wordpiece --vocab-size 100 --threads 1 --out "$work/w.json" "$work/books"
says err '100 ids .5 special tokens'
ok tok train --type wordpiece --vocab-size 100 --threads 2 --out "$work/w2.json" "$work/books"
cmp "$work/w.json" "$work/w2.json" || fail "WordPiece: 1 and 2 threads give different tokenizers"
exits 2 tok train --type wordpiece --vocab-size 12 --out "$work/x.json" "$work/books"
says err 'smaller --alphabet'
exits 2 tok train --type wordpiece --special gpt2 --vocab-size 350 --out "$work/x.json" "$work/books"
says err 'MASK'
ok tok inspect "$work/w.json"
says out 'kind +WordPiece'
says out 'special +4 "\[MASK\]"'
says out "$(sha256sum "$work/w.json" | cut -d' ' -f1)"
ok tok convert --hf "$work/w.json" --out "$work/again.json"
cmp "$work/w.json" "$work/again.json" || fail "convert changed a canonical WordPiece file"
ok tok encode --tokenizer "$work/w.json" "$work/book.txt"
cp "$work/out" "$work/w.ids"
ok tok decode --tokenizer "$work/w.json" "$work/w.ids"
python3 - "$work/book.txt" "$work/out" <<'WORDS' || fail "the words do not come back"
import re, sys
words = [re.findall(r"\w+|[^\w\s]", open(path).read().lower()) for path in sys.argv[1:]]
sys.exit(words[0] != words[1])
WORDS
ok tok encode --tokenizer "$work/w.json" "$work/mixed"
[ "$(wc -l < "$work/out")" = 1 ] || fail "WordPiece: $(wc -l < "$work/out") lines for a document"
printf '[UNK]\n[SEP]\nread\n##er\n' > "$work/vocab.txt"
ok tok convert --bert "$work/vocab.txt" --out "$work/v.json"
printf 'Reader, read' > "$work/reader"
ok tok encode --tokenizer "$work/v.json" "$work/reader"
[ "$(cat "$work/out")" = "2 3 0 2" ] || fail "vocab.txt: $(cat "$work/out")"
printf '[UNK]\n\nread\n' > "$work/vocab.txt"
exits 1 tok convert --bert "$work/vocab.txt" --out "$work/x.json"
says err 'vocab.txt:2: '
exits 2 tok convert --hf --cased "$work/v.json" --out "$work/x.json"
says err 'goes with --bert'

# A dataset of each kind: documents end with </s> or [SEP], and the words come back (a document that was there before is left out).
for kind in roberta w; do
    ok "$seodang" data build --tokenizer "$work/$kind.json" --out "$work/data-$kind" --held-out 0 "$work/two.jsonl"
    ok "$seodang" data verify "$work/data-$kind"
    ok "$seodang" data text "$work/data-$kind" --split train
    cp "$work/out" "$work/text-$kind"
done
sort -u "$work/book.txt" > "$work/sorted"
sort -u "$work/text-roberta" | cmp - "$work/sorted" || fail "RoBERTa: the text of a dataset is another"
python3 - "$work/book.txt" "$work/text-w" <<'LINES' || fail "WordPiece: the text of a dataset is another"
import re, sys
lines = [[re.findall(r"\w+|[^\w\s]", line) for line in open(path).read().lower().splitlines()] for path in sys.argv[1:]]
sys.exit({*map(tuple, lines[0])} != {*map(tuple, lines[1])})
LINES

# A reader that goes away ends it without a word.
tok encode --tokenizer "$work/t.json" "$work/mixed" 2> "$work/err" | head -c 10 > /dev/null
[ -s "$work/err" ] && fail "a closed pipe: $(cat "$work/err")"
if [ -w /dev/full ]; then
    "$seodang" tokenizer encode --tokenizer "$work/t.json" "$work/book.txt" > /dev/full 2> "$work/err" && fail "a full disk is no error"
    says err 'No space left'
fi
exit 0
