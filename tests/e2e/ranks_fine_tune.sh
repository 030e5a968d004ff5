#!/usr/bin/env bash
# A run over several ranks that begins from another run's parameters: whatever the ranks share out, its first step has the loss of one
# rank to the last bit, and in invariant mode so has all that follows.
. "$(dirname "$0")/lib.sh"
command -v mpirun > /dev/null || { echo "skipped: no mpirun"; exit 77; }
[ -e "$(dirname "$seodang")/libseodang_mpi.so" ] || { echo "skipped: built without MPI"; exit 77; }
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none

make_data
make_config "$work/tiny.yaml"
train=("$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --set train.micro_batch=2)
tune=("${train[@]}" --set "checkpoint.init_from=$work/base" --set train.seed=5 --set train.steps=8)
ok "${train[@]}" --out "$work/base"
ok "${tune[@]}" --set parallel.invariant=true --out "$work/one"
ok mpirun -n 2 "${tune[@]}" --set parallel.invariant=true --out "$work/two"
ok "$seodang" checkpoint diff "$work/one" "$work/two"
says out identical
first() { metrics "$work/$1/metrics.jsonl" | python3 -c 'import json, sys; print(repr(json.loads(sys.stdin.readlines()[0])["loss"]))'; }
for zero in 0 1 2 3; do
    ok mpirun -n 2 "${tune[@]}" --set "parallel.zero=$zero" --out "$work/z$zero"
    [ "$(first "z$zero")" = "$(first one)" ] || fail "zero $zero begins with $(first "z$zero"), one rank with $(first one)"
done
# What was learned before shows: the first loss is far under that of random parameters.
python3 - "$(first one)" "$(first base)" <<'CHECK' || fail "the first loss is that of random parameters"
import sys
assert float(sys.argv[1]) < 0.8 * float(sys.argv[2]), sys.argv
CHECK
# All ranks are told what one of them finds.
exits 2 mpirun -n 2 "${tune[@]}" --set model.hidden_size=64 --out "$work/other"
says err 'model.hidden_size is 32 there, 64 here'
# Adapters: the same bits for one rank and two, the first loss that of the base, and a merged checkpoint of the whole model.
lora=(--set lora.rank=4 --set "lora.targets=attn.qkv, mlp.fc")
ok "${tune[@]}" "${lora[@]}" --set parallel.invariant=true --out "$work/l1"
ok mpirun -n 2 "${tune[@]}" "${lora[@]}" --set parallel.invariant=true --out "$work/l2"
ok "$seodang" checkpoint diff "$work/l1" "$work/l2"
says out identical
for zero in 0 1 2 3; do
    ok mpirun -n 2 "${tune[@]}" "${lora[@]}" --set "parallel.zero=$zero" --out "$work/l$zero-2"
    [ "$(first "l$zero-2")" = "$(first l1)" ] || fail "adapters, zero $zero: a first loss of $(first "l$zero-2")"
done
ok "$seodang" checkpoint merge --out "$work/merged" "$work/l2"
ok "$seodang" eval "$work/l2" --data "$work/data" --json
mv "$work/out" "$work/adapted"
ok "$seodang" eval "$work/merged" --data "$work/data" --json
python3 - "$work/adapted" "$work/out" <<'CHECK' || fail "the merged checkpoint predicts otherwise"
import json, sys
one, two = (json.load(open(path))["loss"] for path in sys.argv[1:])
assert abs(one - two) < 1e-4 * one, (one, two)
CHECK
ok "$seodang" generate "$work/l2" --prompt "the king" --max-tokens 4 --seed 1
# A task: the same bits and the same scores for one rank and two; with parameters in windows the evaluation fetches them.
for i in $(seq 1 40); do echo "$((i % 2 == 0)) text number $i of $((i * 7 % 11))"; done | sed 's/^0 /odd\t/; s/^1 /even\t/' > "$work/labels.tsv"
classify=(--set data.path=null --set task.kind=classify --set "task.labels=odd, even" --set "task.examples=$work/labels.tsv"
    --set "task.held_out=$work/labels.tsv" --set eval.every=4)
ok "${tune[@]}" "${classify[@]}" --set parallel.invariant=true --out "$work/c1"
ok mpirun -n 2 "${tune[@]}" "${classify[@]}" --set parallel.invariant=true --out "$work/c2"
ok "$seodang" checkpoint diff "$work/c1" "$work/c2"
says out identical
metrics "$work/c1/metrics.jsonl" > "$work/a"
metrics "$work/c2/metrics.jsonl" > "$work/b"
cmp "$work/a" "$work/b" || fail "the scores of one rank and two differ"
grep -q eval_matthews "$work/a" || fail "no scores in the metrics"
ok mpirun -n 2 "${tune[@]}" "${classify[@]}" --set parallel.zero=3 --out "$work/c3"
