#!/usr/bin/env bash
# Fine-tuning shows transfer. A GPT-2 pretrained on Austen's novels and fine-tuned on a tenth of the King James text beats the same steps
# from scratch on unseen verses; so do adapters alone. Its completions of verses get better with task.kind: pairs. Classification heads on
# it and on a BERT pretrained on both tell the two texts apart, on passages that neither has seen labelled, better than the majority does.
# Takes minutes; needs pd-austen-six-novels.txt and pd-kjv.txt in $SEODANG_TEST_DATA.
. "$(dirname "$0")/lib.sh"
austen=${SEODANG_TEST_DATA:-}/pd-austen-six-novels.txt
kjv=${SEODANG_TEST_DATA:-}/pd-kjv.txt
[ -r "$austen" ] && [ -r "$kjv" ] || { echo "skipped: no books in SEODANG_TEST_DATA"; exit 77; }

# A tenth of the verses; verses cut in two; passages of 16 words with their authors, the unseen ones from other parts of the books.
python3 - "$austen" "$kjv" "$work" <<'MAKE' || fail "the examples"
import json, random, sys
austen, kjv, out = sys.argv[1:]
rnd = random.Random(1)
read = lambda path: open(path, encoding="utf-8", errors="replace").read()
verses = read(kjv).splitlines()
tenth = verses[: len(verses) // 10]
open(f"{out}/tenth.txt", "w").write("\n".join(tenth) + "\n")
with open(f"{out}/pairs.jsonl", "w") as train, open(f"{out}/pairs-unseen.jsonl", "w") as unseen:
    for i, verse in enumerate(tenth):
        words = verse.split()
        if not 8 <= len(words) <= 30:
            continue
        half = len(words) // 2
        example = {"prompt": " ".join(words[:half]), "completion": " " + " ".join(words[half:])}
        (unseen if i >= len(tenth) * 9 // 10 else train).write(json.dumps(example) + "\n")
examples = {"seen": [], "unseen": []}
for label, path, seen, unseen in (("austen", austen, 1800, 300), ("kjv", kjv, 1200, 200)):
    words = read(path).split()
    cut = lambda part: [" ".join(part[i : i + 16]) for i in range(0, len(part) - 16, 16)]
    border = len(words) * 9 // 10
    examples["seen"] += [(label, text) for text in rnd.sample(cut(words[:border]), seen)]
    examples["unseen"] += [(label, text) for text in rnd.sample(cut(words[border:]), unseen)]
for name, rows in examples.items():
    rnd.shuffle(rows)
    with open(f"{out}/{name}.jsonl", "w") as file:
        for label, text in rows:
            file.write(json.dumps({"text": text, "label": label}) + "\n")
MAKE

cat > "$work/gpt.yaml" <<'CONFIG'
model: {family: gpt2, num_layers: 3, num_heads: 3, hidden_size: 96, seq_len: 64, vocab_size: 768, dropout: 0}
train: {steps: 400, batch_tokens: 2048, micro_batch: 32, seed: 1}
optimizer: {lr: 3e-3, weight_decay: 0.1}
schedule: {name: cosine, warmup_steps: 20, final_lr_fraction: 0.1}
eval: {every: 1000, tokens: 0}
checkpoint: {every: 0, keep_last: 1}
CONFIG
ok "$seodang" tokenizer train --vocab-size 768 --out "$work/bpe.json" "$austen" "$kjv"
ok "$seodang" data build --tokenizer "$work/bpe.json" --out "$work/austen" --held-out 0.02 "$austen"
ok "$seodang" data build --tokenizer "$work/bpe.json" --out "$work/tenth" --held-out 0.1 --held-out-mode tail "$work/tenth.txt"

# number FILE KEY
number() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }
# train NAME SETTING...; the settings end a run of the configuration in $config.
config=$work/gpt.yaml
train() {
    local name=$1 sets=() set
    shift
    for set in "$@"; do sets+=(--set "$set"); done
    ok "$seodang" train "$config" "${sets[@]}" --out "$work/$name"
}
# loss NAME: on the unseen verses. score NAME KEY: on the run's own task.
loss() { ok "$seodang" eval "$work/$1" --data "$work/tenth" --json; number "$work/out" loss; }
score() { ok "$seodang" eval "$work/$1" --json; number "$work/out" "$2"; }
# less A B, in words; says what it saw.
less() { python3 -c 'import sys; sys.exit(not float(sys.argv[1]) < float(sys.argv[2]))' "$1" "$2" || fail "$3: $1 is not below $2"; }

train base "data.path=$work/austen"
short=(train.steps=30 schedule.warmup_steps=3 "data.path=$work/tenth")
train scratch "${short[@]}"
train tuned "${short[@]}" "checkpoint.init_from=$work/base" optimizer.lr=2e-3
train adapted "${short[@]}" "checkpoint.init_from=$work/base" lora.rank=8 lora.alpha=32 "lora.targets=attn.qkv, attn.proj, mlp.fc, mlp.proj" \
    optimizer.lr=6e-3
untuned=$(loss base) scratch=$(loss scratch) tuned=$(loss tuned) adapted=$(loss adapted)
echo "loss on unseen verses: of the pretrained model $untuned, 30 steps from scratch $scratch, fine-tuned $tuned, adapters alone $adapted"
less "$tuned" "$scratch" "fine-tuned against from scratch"
less "$tuned" "$untuned" "fine-tuned against before"
less "$adapted" "$scratch" "adapters against from scratch"

ok "$seodang" checkpoint merge "$work/adapted" --out "$work/merged"
merged=$(loss merged)
echo "merged into one checkpoint: $merged"
python3 -c 'import sys; a, b = map(float, sys.argv[1:]); sys.exit(not abs(a - b) <= 1e-5 * a)' "$adapted" "$merged" ||
    fail "merged $merged, with adapters $adapted"

pairs=(task.kind=pairs "task.examples=$work/pairs.jsonl" "task.held_out=$work/pairs-unseen.jsonl" train.steps=30 schedule.warmup_steps=3)
train completes "${pairs[@]}" "checkpoint.init_from=$work/base" optimizer.lr=2e-3
train completes-scratch "${pairs[@]}" "data.path=$work/tenth"
after=$(score completes perplexity) without=$(score completes-scratch perplexity)
echo "perplexity of unseen completions: fine-tuned $after, from scratch $without"
less "$after" "$without" "completions, fine-tuned against from scratch"

# labels NAME: what a classification run came to.
labels() {
    local accuracy majority
    ok "$seodang" eval "$work/$1" --json
    accuracy=$(number "$work/out" accuracy) majority=$(number "$work/out" majority)
    echo "$1: accuracy $accuracy (majority $majority), F1 $(number "$work/out" f1_macro), Matthews $(number "$work/out" matthews)"
    less "$majority" "$accuracy" "$1: the majority's accuracy against the head's"
    less 0.3 "$(number "$work/out" matthews)" "$1: a correlation"
}
classes=(task.kind=classify "task.labels=austen, kjv" "task.examples=$work/seen.jsonl" "task.held_out=$work/unseen.jsonl" train.steps=60
    schedule.warmup_steps=6)
train gpt-author "${classes[@]}" "checkpoint.init_from=$work/base" optimizer.lr=1e-3
labels gpt-author
train gpt-author-adapted "${classes[@]}" "checkpoint.init_from=$work/base" lora.rank=4 "lora.targets=attn.qkv, attn.proj" optimizer.lr=3e-3
labels gpt-author-adapted

# The same passages for a BERT that has read both books, without labels.
cat > "$work/bert.yaml" <<'CONFIG'
model: {family: bert, num_layers: 2, num_heads: 2, hidden_size: 96, seq_len: 64, vocab_size: 1024, dropout: 0, attention_dropout: 0}
train: {steps: 200, batch_tokens: 2048, micro_batch: 32, seed: 1}
optimizer: {lr: 2e-3, weight_decay: 0.01}
schedule: {name: linear, warmup_steps: 20}
eval: {every: 1000, tokens: 0}
checkpoint: {every: 0, keep_last: 1}
CONFIG
config=$work/bert.yaml
ok "$seodang" tokenizer train --type wordpiece --vocab-size 1024 --out "$work/pieces.json" "$austen" "$kjv"
ok "$seodang" data build --tokenizer "$work/pieces.json" --out "$work/both" --held-out 0.02 "$austen" "$kjv"
train bert "data.path=$work/both"
train bert-author "${classes[@]}" train.steps=200 "checkpoint.init_from=$work/bert" optimizer.lr=1e-3
labels bert-author
ok "$seodang" classify "$work/gpt-author" --text "And the LORD spake unto Moses, saying, Speak unto the children of Israel"
says out '^kjv'
