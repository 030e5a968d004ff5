#!/usr/bin/env bash
# Every family, a batch that grows and documents that do not see each other: 1 and 3 threads leave the same metrics and checkpoint, byte
# for byte, as does a run that was killed and goes on from an earlier checkpoint, and 2 ranks in invariant mode where there is mpirun.
. "$(dirname "$0")/lib.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
steps=12

# Documents of a page each, by three tokenizers.
make_text "$work/book.txt" 1200
split -l 20 "$work/book.txt" "$work/page."
for kind in gpt2 roberta; do
    ok "$seodang" tokenizer train --vocab-size 300 --special "$kind" --out "$work/$kind.json" "$work/book.txt"
done
ok "$seodang" tokenizer train --type wordpiece --vocab-size 120 --out "$work/bert.json" "$work/book.txt"
for kind in gpt2 roberta bert; do
    ok "$seodang" data build --tokenizer "$work/$kind.json" --out "$work/$kind" --held-out 0.1 "$work"/page.*
done

cat > "$work/tiny.yaml" <<CONFIG
model: {num_layers: 2, num_heads: 2, hidden_size: 32, seq_len: 32, vocab_size: 300, dropout: 0.1, attention_dropout: 0.1}
train: {steps: $steps, batch_tokens: 512, micro_batch: 2, seed: 3}
optimizer: {lr: 3e-3, bias_correction: false}
schedule: {name: linear, warmup_steps: 4, final_lr_fraction: 0.0}
eval: {every: 6, tokens: 2048}
checkpoint: {every: 4, keep_last: 9}
parallel: {invariant: true, slots: 2}
CONFIG

# same RUN RUN: metrics, and the parts of the last checkpoint if both were written by one rank.
same() {
    metrics "$work/$1/metrics.jsonl" > "$work/a"
    metrics "$work/$2/metrics.jsonl" > "$work/b"
    [ "$(wc -l < "$work/a")" = "$steps" ] || fail "$1 has $(wc -l < "$work/a") lines"
    cmp "$work/a" "$work/b" || { diff "$work/a" "$work/b" >&2; fail "the metrics of $1 and $2 differ"; }
    ok "$seodang" checkpoint diff "$work/$1" "$work/$2"
    says out identical
}

# family NAME DATASET SETTING...
family() {
    local name=$1 data=$2
    shift 2
    local train=("$seodang" train "$work/tiny.yaml" --set "data.path=$work/$data" "$@")
    ok "${train[@]}" --threads 1 --out "$work/$name.1"
    ok "${train[@]}" --threads 3 --out "$work/$name.3"
    same "$name.1" "$name.3"
    python3 - "$work/$name.1/metrics.jsonl" "$name" <<'CHECK' || fail "$name: metrics"
import json, math, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
encoder = sys.argv[2].split("-")[0] in ("bert", "roberta", "distilbert")
pairs = sys.argv[2] == "bert"
assert lines[-1]["loss"] < lines[0]["loss"], (lines[0], lines[-1])
assert all(("token_loss" in line) == pairs for line in lines)
for line in lines:
    if pairs:
        assert math.isclose(line["loss"], line["token_loss"] + line["label_loss"], rel_tol=1e-6), line
evals = [line for line in lines if "eval_loss" in line]
assert len(evals) == 2
assert all(("eval_bits_per_byte" in line) != encoder for line in evals), evals
assert all(("eval_next_sentence_accuracy" in line) == pairs for line in evals), evals
CHECK
    # What a run leaves that is killed after its first checkpoint: the next attempt starts there.
    cp -r "$work/$name.1" "$work/$name.killed"
    rm -r "$work/$name.killed/checkpoints/step-00000008" "$work/$name.killed/checkpoints/step-00000012"
    head -n 6 "$work/$name.1/metrics.jsonl" > "$work/$name.killed/metrics.jsonl"
    ok "${train[@]}" --out "$work/$name.killed"
    same "$name.1" "$name.killed"
    cmp "$work/$name.1"/checkpoints/step-00000012/part-*.h5 "$work/$name.killed"/checkpoints/step-00000012/part-*.h5 ||
        fail "$name: a resumed run's checkpoint has other bytes"
    # The held-out loss of the run is that of the verb.
    ok "$seodang" eval "$work/$name.1" --data "$work/$data" --json
    cp "$work/out" "$work/eval"
    ok "$seodang" eval "$work/$name.3" --data "$work/$data" --json --threads 3
    cmp "$work/out" "$work/eval" || fail "$name: an evaluation depends on threads"
    if ! command -v mpirun > /dev/null || [ ! -e "$(dirname "$seodang")/libseodang_mpi.so" ]; then return; fi
    ok env OMP_NUM_THREADS=1 mpirun -n 2 "${train[@]}" --out "$work/$name.ranks"
    same "$name.1" "$name.ranks"
}

family gpt1 gpt2 --set model.family=gpt1
family gpt3 gpt2 --set model.family=gpt3 --set model.band=7
family gpt2-documents gpt2 --set model.family=gpt2 --set data.document_mask=true
family roberta roberta --set model.family=roberta --set data.document_mask=true
family distilbert bert --set model.family=distilbert
family bert bert --set model.family=bert
family gpt2-ramp gpt2 --set model.family=gpt2 --set train.batch_ramp_tokens=1500 --set train.batch_start_tokens=128

# Batches of 4, 8, 12 and 16 sequences of 32 tokens, each decided by the tokens before it.
python3 - "$work/gpt2-ramp.1/metrics.jsonl" <<'CHECK' || fail "a batch that grows"
import json, sys
seen, wanted = 0, []
for _ in range(12):
    seen += 32 * (4 + 4 * min(3, 3 * seen // 1500))
    wanted.append(seen)
assert [json.loads(line)["tokens"] for line in open(sys.argv[1])] == wanted, wanted
CHECK
