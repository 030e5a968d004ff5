#!/usr/bin/env bash
# Distillation pays: at equal steps a student of half the teacher's layers that learns from it has a lower held-out loss than the same
# student without it, on three seeds: DistilBERT from BERT, and GPT-2 from GPT-2. What the students reach that begin with random
# parameters in place of the teacher's layers is printed beside. Needs pd-austen-six-novels.txt in $SEODANG_TEST_DATA; takes minutes.
. "$(dirname "$0")/lib.sh"
text=${SEODANG_TEST_DATA:-}/pd-austen-six-novels.txt
[ -r "$text" ] || { echo "skipped: no $text (set SEODANG_TEST_DATA)"; exit 77; }
head -c 1500000 "$text" > "$work/book.txt"
for type in wordpiece bpe; do
    ok "$seodang" tokenizer train --type $type --vocab-size 512 --out "$work/$type.json" "$work/book.txt"
    ok "$seodang" data build --tokenizer "$work/$type.json" --out "$work/$type" --held-out 0.1 --held-out-mode tail "$work/book.txt"
done
cat > "$work/bert.yaml" <<'CONFIG'
model: {family: distilbert, num_layers: 2, num_heads: 4, hidden_size: 64, seq_len: 32, vocab_size: 512, dropout: 0, attention_dropout: 0}
data: {path: wordpiece}
train: {steps: 150, batch_tokens: 1024, micro_batch: 32}
optimizer: {lr: 3e-3, weight_decay: 0.01}
schedule: {name: linear, warmup_steps: 20, final_lr_fraction: 0.1}
eval: {every: 150, tokens: 32768}
CONFIG
cat > "$work/gpt2.yaml" <<'CONFIG'
model: {family: gpt2, num_layers: 2, num_heads: 4, hidden_size: 96, seq_len: 64, vocab_size: 512, dropout: 0}
data: {path: bpe}
train: {steps: 100, batch_tokens: 2048, micro_batch: 16}
optimizer: {lr: 2e-3, weight_decay: 0.1}
schedule: {name: cosine, warmup_steps: 20, final_lr_fraction: 0.1}
eval: {every: 100, tokens: 32768}
CONFIG

# students FAMILY DATA [WORDS OF THE TEACHER]: a teacher of four layers, then three students of two for each seed.
students() {
    local family=$1 seed
    local train=("$seodang" train "$work/$family.yaml" --set "data.path=$work/$2")
    shift 2
    ok "${train[@]}" --set model.num_layers=4 --set train.seed=1 "$@" --out "$work/$family-teacher"
    for seed in 11 12 13; do
        local student=("${train[@]}" --set "train.seed=$seed") teacher=(--set "distill.teacher=$work/$family-teacher")
        ok "${student[@]}" --out "$work/$family-alone-$seed"
        ok "${student[@]}" "${teacher[@]}" --out "$work/$family-taught-$seed"
        ok "${student[@]}" "${teacher[@]}" --set distill.layers=none --out "$work/$family-random-$seed"
    done
    python3 - "$work/$family" <<'CHECK' || fail "$family: the students of a teacher are not better"
import json, sys
def held_out(run):
    return [json.loads(line) for line in open(f"{sys.argv[1]}-{run}/metrics.jsonl")][-1]["eval_loss"]
print(f"{sys.argv[1].split('/')[-1]}: teacher {held_out('teacher'):.4f}")
better = True
for seed in (11, 12, 13):
    alone, taught, random = (held_out(f"{how}-{seed}") for how in ("alone", "taught", "random"))
    print(f"seed {seed}: alone {alone:.4f}, taught {taught:.4f}, taught from random parameters {random:.4f}")
    better = better and taught < alone
sys.exit(not better)
CHECK
}
students bert wordpiece --set model.family=bert --set model.next_sentence=false --set train.steps=800 --set eval.every=800
students gpt2 bpe --set train.steps=500 --set eval.every=500
