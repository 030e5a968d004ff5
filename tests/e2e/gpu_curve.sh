#!/usr/bin/env bash
# The same seed and data on a GPU in bf16 and on the CPU in f32: at every evaluation the losses are within 1 % of each other. A
# checkpoint of one goes on with the other, and a stopped GPU run goes on bit for bit. Needs a GPU; takes a minute of CPU time.
. "$(dirname "$0")/lib.sh"
text=${SEODANG_TEST_DATA:-}/tinyshakespeare.txt
if [ ! -r "$text" ]; then
    text=$work/book.txt
    make_text "$text" 20000
fi
ok "$seodang" tokenizer train --vocab-size 257 --out "$work/bytes.json" "$text"
ok "$seodang" data build --tokenizer "$work/bytes.json" --out "$work/data" --held-out 0.1 --held-out-mode tail "$text"
train=("$seodang" train "$root/configs/shakespeare-char.yaml" --set "data.path=$work/data")
"${train[@]}" --set device=cuda --set train.steps=100 --set schedule.decay_steps=2000 --out "$work/probe" > "$work/out" 2>&1
case $? in
0) ;;
2)
    grep -q '^error: cuda: ' "$work/out" || fail "$(cat "$work/out")"
    echo "skipped: $(grep -m 1 '^error: cuda: ' "$work/out")"
    exit 77
    ;;
*) fail "$(cat "$work/out")" ;;
esac
ok "${train[@]}" --set device=cuda --set precision=bf16 --out "$work/gpu"
ok "${train[@]}" --set device=cpu --out "$work/cpu"
python3 - "$work/gpu/metrics.jsonl" "$work/cpu/metrics.jsonl" <<'CHECK' || fail "the curves part"
import json, sys
curves = [{r["step"]: r["eval_loss"] for r in map(json.loads, open(path)) if "eval_loss" in r} for path in sys.argv[1:]]
assert curves[0].keys() == curves[1].keys() and len(curves[0]) == 8, curves
worst = max(abs(curves[0][step] - loss) / loss for step, loss in curves[1].items())
print(f"at most {100 * worst:.3f} % apart, last {curves[0][2000]:.4f} and {curves[1][2000]:.4f}")
assert worst <= 0.01, curves
CHECK

# Own kernels: which of two products is faster must not decide the bits here.
gpu=("${train[@]}" --set device=cuda --set kernels.matmul=own --set eval.every=0 --set schedule.decay_steps=2000)
ok "${gpu[@]}" --set train.steps=200 --out "$work/whole"
ok "${gpu[@]}" --set train.steps=120 --out "$work/parts"
ok "${gpu[@]}" --set train.steps=200 --out "$work/parts"
ok "$seodang" checkpoint diff "$work/whole" "$work/parts"

# The GPU's checkpoint goes on on the CPU, and back.
ok "${gpu[@]}" --set device=cpu --set train.steps=210 --out "$work/parts"
says err 'bf16 and goes on in f32'
ok "${gpu[@]}" --set train.steps=220 --out "$work/parts"
says err 'f32 and goes on in bf16'
ok "$seodang" eval "$work/parts" --data "$work/data" --device cuda
ok "$seodang" generate "$work/parts" --prompt "the king" --max-tokens 40 --device cuda
