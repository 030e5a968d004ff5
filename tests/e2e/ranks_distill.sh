#!/usr/bin/env bash
# A student over several ranks: whatever the ranks share out, its first step has the losses of one rank to the last bit, and in
# invariant mode so has all that follows. The teacher is narrower, so that a projection is learned as well.
. "$(dirname "$0")/lib.sh"
command -v mpirun > /dev/null || { echo "skipped: no mpirun"; exit 77; }
[ -e "$(dirname "$seodang")/libseodang_mpi.so" ] || { echo "skipped: built without MPI"; exit 77; }
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none

make_data
make_config "$work/tiny.yaml"
train=("$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --set train.micro_batch=2)
ok "${train[@]}" --set model.hidden_size=24 --out "$work/teacher"
student=("${train[@]}" --set "distill.teacher=$work/teacher" --set train.steps=8)
ok "${student[@]}" --set parallel.invariant=true --out "$work/one"
says err '^step 1/8  loss [0-9.]+ \(hard [0-9.]+, soft [0-9.]+, cosine [0-9.]+\)'
ok mpirun -n 2 "${student[@]}" --set parallel.invariant=true --out "$work/two"
ok "$seodang" checkpoint diff "$work/one" "$work/two"
says out identical
cmp <(metrics "$work/one/metrics.jsonl") <(metrics "$work/two/metrics.jsonl") || fail "two ranks tell other losses than one"
first() { metrics "$work/$1/metrics.jsonl" | python3 -c '
import json, sys
r = json.loads(sys.stdin.readlines()[0])
print(*(repr(r[k]) for k in ("loss", "hard_loss", "soft_loss", "cosine_loss")))'; }
for zero in 0 1 2 3; do
    ok mpirun -n 2 "${student[@]}" --set "parallel.zero=$zero" --out "$work/z$zero"
    [ "$(first "z$zero")" = "$(first one)" ] || fail "zero $zero begins with $(first "z$zero"), one rank with $(first one)"
done
# All ranks are told what one of them finds.
exits 2 mpirun -n 2 "${student[@]}" --set model.vocab_size=300 --out "$work/other"
says err 'has a vocabulary of 257 tokens, the student of 300'
