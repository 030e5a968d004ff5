#!/usr/bin/env bash
# scripts/bench_gpu's report from programs that print known figures: goals, fractions, memory that does not suffice, turns with
# PyTorch, what failed.
. "$(dirname "$0")/lib.sh"
mkdir "$work/bin"

# An H200 that reaches the forward goal, half of the backward one, and whose cuBLASLt takes 0.6 of our time.
cat > "$work/bin/bench_gpu" << 'FAKE'
#!/usr/bin/env bash
line() { # op case by ms flop bytes tflops tbps
    printf '{"kind": "kernel", "op": "%s", "case": "%s", "dtype": "bf16", "by": "%s", "ms": %s, "ms_min": %s, "ms_max": %s, ' "$1" "$2" \
        "$3" "$4" "$4" "$4"
    printf '"rounds": 21, "flop": %s, "bytes": %s, "tflops": %s, "tbps": %s}\n' "$5" "$6" "$7" "$8"
}
echo '{"kind": "device", "name": "NVIDIA H200, 132 SMs, sm_90", "version": "0", "memory_bytes": 150e9, "free_bytes": 149e9}'
[ "$1" != --info ] || exit 0
line copy "device to device" own 0.5 0 2e9 0 4.0
line matmul "square NT 8192x8192x8192" own 2 1e12 4e8 500 0.2
line matmul "square NT 8192x8192x8192" cublaslt 1.2 1e12 4e8 800 0.3
line matmul "qkv NT 16384x2304x768 bias" own 0.2 6e10 1e8 300 0.5
line matmul "qkv NT 16384x2304x768 bias" cublaslt 0.12 6e10 1e8 500 0.9
line matmul "qkv dX NN 16384x768x2304" own 0.2 6e10 1e8 300 0.5
line matmul "qkv dX NN 16384x768x2304" cublaslt 0.04 6e10 1e8 500 0.9
line matmul "qkv dW TN 2304x768x16384 f32 +=" own 0.2 6e10 1e8 300 0.5
line matmul "qkv dW TN 2304x768x16384 f32 +=" cublaslt 0.08 6e10 1e8 500 0.9
line matmul "qkv NT 16384x4800x1600 bias" own 1 1 1 1 1
line matmul "qkv NT 16384x4800x1600 bias" cublaslt 1 1 1 1 1
line attention_fwd "B=16 H=12 T=1024 D=64 causal" own 0.1 2.6e10 1e8 230 1
line attention_bwd "B=16 H=12 T=1024 D=64 causal" own 0.4 6.4e10 2e8 90 1
line layernorm_fwd "16384x768 with residual" own 0.1 0 1e8 0 3.0
echo '{"kind": "failure", "op": "adamw", "case": "124475904 parameters", "why": "no memory for it"}'
exit 1
FAKE
# 124M fits with 16 sequences a pass; 1558M never.
cat > "$work/bin/bench_train" << 'FAKE'
#!/usr/bin/env bash
[[ "$*" == *model.num_layers=12* && "$*" == *micro_batch=16\ * ]] || { echo "error: 99 GB cannot be had" >&2; exit 2; }
echo '{"kind": "step", "device": "H200", "parameters": 124439808, "batch_tokens": 524288, "micro_batch": 16, "seq_len": 1024,
    "steps": 8, "ms": 2097.152, "ms_min": 2000, "ms_max": 2200, "tokens_per_s": 250000, "flop_per_token_palm": 859885056,
    "flop_per_token_half": 803262336, "tflops_palm": 214.97, "tflops_half": 200.8, "memory_bytes": 40e9, "free_bytes": 1e9, "loss": 10.9}' |
    tr -d '\n'
echo
[[ "$*" != *--groups* ]] || echo '{"kind": "groups", "step_ms": 2100, "sum_ms": 2000, "groups": {"matmul": {"ms": 900, "calls": 96}}}'
FAKE
# A python that stands in for the one with torch.
cat > "$work/bin/python" << 'FAKE'
#!/usr/bin/env bash
echo '{"kind": "torch", "version": "9.9", "cuda": "13", "device": "NVIDIA H200"}'
while read -r word; do
    [ "$word" != sdpa ] || echo '{"kind": "theirs", "op": "attention_fwd", "case": "B=16 H=12 T=1024 D=64 causal", "what": "SDPA", "ms": 0.2}'
    [ "$word" != step ] || echo '{"kind": "theirs", "op": "step", "case": "GPT-2 124M", "what": "torch.compile", "ms": 2.048}'
    echo '{"kind": "done"}'
done
FAKE
chmod +x "$work"/bin/*

exits 1 "$root/scripts/bench_gpu" --bin "$work/bin" --out "$work/report" --python "$work/bin/python"
report=$work/report/bench_gpu.md
row() { grep -qF -- "$1" "$report" || { cat "$report" >&2; fail "no row: $1"; }; }
row '| attention forward, D=64, T=1024, causal | 230 TFLOP/s | 29 % | 230 | 29 % | 100 % |'
row '| attention backward, D=64, T=1024, causal | 180 TFLOP/s | 23 % | 90 | 11 % | 50 % |'
row '| layer norm forward with residual, C=768 | 3.9 TB/s | 91 % | 3 | 75 % | 77 % |'
row '| layer norm backward, C=768 | 3.4 TB/s | 79 % | not measured |  |  |'
row '| own matmul, GPT-2 124M, forward | 0.6 of cuBLASLt | 60 % | 0.6 | 60 % | 100 % |'
row '| own matmul, GPT-2 124M, gradients | 0.6 of cuBLASLt | 60 % | 0.3 | 30 % | 50 % |'
row '| training step, GPT-2 124M | 500,000 tokens/s |  | 250,000 |  | 50 % |'
row '| training step, GPT-2 1558M | 50,000 tokens/s |  | not measured |  |  |'
row '| 124M | 524,288 | 16 | 2097.2 | 250,000 | 22 % | 20 % | 40.0 |'
row '| attention_fwd B=16 H=12 T=1024 D=64 causal | SDPA | 0.2000 | 0.1000 | 2.00 |'
row '| step GPT-2 124M | torch.compile | 2.0480 | 4.0960 | 0.50 |'
row '* GPT-2 1558M: does not fit'
row '* adamw 124475904 parameters: no memory for it'
python3 - "$work/report/bench_gpu.json" << 'CHECK' || fail "bench_gpu.json"
import json, sys
report = json.load(open(sys.argv[1]))
assert report["device"].startswith("NVIDIA H200") and report["date"] and report["commit"], report
rounds = [line["round"] for line in report["lines"] if line["kind"] == "theirs" and line["op"] == "step"]
assert rounds == [1, 2, 3], rounds
CHECK

# Parts can be chosen, and time runs out.
sed -i 's/^exit 1$//' "$work/bin/bench_gpu"
ok "$root/scripts/bench_gpu" --bin "$work/bin" --out "$work/kernels" kernels
if grep -q 'Training steps' "$work/kernels/bench_gpu.md"; then fail "a part that was not asked for"; fi
ok "$root/scripts/bench_gpu" --bin "$work/bin" --out "$work/late" --seconds 1 steps
grep -q 'no time left' "$work/late/bench_gpu.md" || fail "nothing is said of what was left out"
exits 2 "$root/scripts/bench_gpu" --bin "$work/nowhere" kernels
says err 'no bench_gpu in'
exits 2 "$root/scripts/bench_gpu" --bin "$work/bin" everything
