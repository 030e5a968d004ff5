# Shared by the end-to-end tests: a scratch folder, a small text, and assertions that say what they saw.
# Each test is run as: TEST.sh PATH_OF_SEODANG SOURCE_ROOT
set -uo pipefail
seodang=$1
root=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }

# ok COMMAND...: must exit 0; its output is kept in $work/out and $work/err.
ok() { exits 0 "$@"; }

# exits CODE COMMAND...: must exit with CODE.
exits() {
    local want=$1 rc
    shift
    "$@" > "$work/out" 2> "$work/err"
    rc=$?
    [ "$rc" = "$want" ] || { cat "$work/out" "$work/err" >&2; fail "exit $rc, not $want: $*"; }
}

# says FILE PATTERN: the kept output has the pattern.
says() { grep -qE "$2" "$work/$1" || { cat "$work/$1" >&2; fail "no '$2' in what it printed"; }; }

# A text with structure to learn and enough of it: numbered sentences over a small vocabulary. make_text FILE LINES
make_text() {
    awk -v lines="$2" 'BEGIN {
        srand(7)
        split("the king|a river|our teacher|this book|her son|that city|every child|one prophet", who, "|")
        split("saw|read|called|followed|kept|blessed|asked|remembered", did, "|")
        split("the word|a stone|the law|his people|the gate|their bread|the water|a song", what, "|")
        for (i = 0; i < lines; i++)
            printf "%s %s %s, and %s %s %s.\n", who[1 + int(rand() * 8)], did[1 + int(rand() * 8)], what[1 + int(rand() * 8)],
                who[1 + int(rand() * 8)], did[1 + int(rand() * 8)], what[1 + int(rand() * 8)]
    }' > "$1"
}

# A dataset of plain bytes in $work/data. make_data [LINES]
make_data() {
    make_text "$work/book.txt" "${1:-2000}"
    ok "$seodang" tokenizer train --vocab-size 257 --out "$work/bytes.json" "$work/book.txt"
    ok "$seodang" data build --tokenizer "$work/bytes.json" --out "$work/data" --held-out 0.1 --held-out-mode tail "$work/book.txt"
}

# A configuration that a test trains in a second. make_config FILE
make_config() {
    cat > "$1" <<'CONFIG'
model: {family: gpt2, num_layers: 2, num_heads: 2, hidden_size: 32, seq_len: 32, vocab_size: 257, dropout: 0.1}
data: {path: data}
train: {steps: 24, batch_tokens: 512, micro_batch: 8, seed: 3}
optimizer: {lr: 3e-3, weight_decay: 0.1}
schedule: {name: cosine, warmup_steps: 4, final_lr_fraction: 0.1}
eval: {every: 12, tokens: 4096}
checkpoint: {every: 8, keep_last: 2}
CONFIG
}

# metrics FILE: the lines without what the clock decides.
metrics() {
    python3 -c '
import json, sys
for line in open(sys.argv[1]):
    record = json.loads(line)
    record.pop("time", None)
    print(json.dumps(record, sort_keys=True))' "$1"
}
