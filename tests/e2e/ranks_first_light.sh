#!/usr/bin/env bash
# One run over 1, 2 and 4 ranks under mpirun: in invariant mode the same metrics and the same checkpoint, byte for byte, also when it
# stops at one number of ranks and goes on at another; in the default mode the same again for the same number. What ranks do not have
# in common is named before the first step.
. "$(dirname "$0")/lib.sh"
command -v mpirun > /dev/null || { echo "skipped: no mpirun"; exit 77; }
[ -e "$(dirname "$seodang")/libseodang_mpi.so" ] || { echo "skipped: built without MPI"; exit 77; }
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none

# ranks N COMMAND...: with N ranks; one of them without MPI.
ranks() {
    local n=$1
    shift
    if [ "$n" = 1 ]; then "$@"; else mpirun -n "$n" "$@"; fi
}
make_data
make_config "$work/tiny.yaml"
train=("$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --set train.micro_batch=2)
invariant=(--set parallel.invariant=true)

# same RUN RUN: metrics and newest checkpoint.
same() {
    metrics "$work/$1/metrics.jsonl" > "$work/a"
    metrics "$work/$2/metrics.jsonl" > "$work/b"
    cmp "$work/a" "$work/b" || fail "the metrics of $1 and $2 differ"
    [ "$(wc -l < "$work/a")" = 24 ] || fail "$1 has $(wc -l < "$work/a") steps"
    ok "$seodang" checkpoint diff "$work/$1" "$work/$2"
    says out identical
}

for n in 1 2 4; do
    ok ranks "$n" "${train[@]}" "${invariant[@]}" --out "$work/i$n"
done
[ "$(ls "$work/i4/checkpoints/step-00000024/" | grep -c '^part-.*-of-0004.h5$')" = 4 ] || fail "not four parts"
same i1 i2
same i1 i4
says_ranks() { python3 - "$1" "$2" <<'CHECK' || fail "the ranks' times in the metrics of $1"
import json, sys
for line in open(sys.argv[1]):
    ranks = json.loads(line)["time"]["ranks"]
    assert ranks["count"] == int(sys.argv[2]) and 0 <= ranks["slowest"] < ranks["count"], ranks
    assert 0 < ranks["min_ms"] <= ranks["mean_ms"] <= ranks["max_ms"] and ranks["sent_bytes"] > 0, ranks
CHECK
}
says_ranks "$work/i4/metrics.jsonl" 4

# 4 -> 2 -> 1: stopped at steps 8 and 16, each time by a run that ends there.
stop=(--set schedule.decay_steps=24)
ok ranks 4 "${train[@]}" "${invariant[@]}" "${stop[@]}" --set train.steps=8 --set eval.every=12 --out "$work/moving"
ok ranks 2 "${train[@]}" "${invariant[@]}" "${stop[@]}" --set train.steps=16 --out "$work/moving"
ok ranks 1 "${train[@]}" "${invariant[@]}" "${stop[@]}" --out "$work/moving"
ok "$seodang" checkpoint diff "$work/i1" "$work/moving"
says out identical

# The default mode: again the same for 2 ranks, whatever they share out; up to rounding that of one.
ok ranks 2 "${train[@]}" --out "$work/d2"
for zero in 0 2 3; do
    ok ranks 2 "${train[@]}" --set "parallel.zero=$zero" --out "$work/z$zero"
done
same d2 z0
same z2 z3
ok ranks 1 "${train[@]}" --out "$work/d1"
python3 - "$work"/{d1,d2,z3}/metrics.jsonl <<'CHECK' || fail "2 ranks are not the run of one"
import json, sys
last = [[json.loads(line) for line in open(path)][-1] for path in sys.argv[1:]]
for other in last[1:]:
    # 24 steps of f32 rounding, each loss near 3.
    assert abs(other["loss"] - last[0]["loss"]) < 1e-3, last
CHECK

# Refused by name, and nothing trained.
exits 2 ranks 3 "${train[@]}" "${invariant[@]}" --out "$work/three"
says err 'slots of parallel.invariant.* 2 and 4 ranks'
exits 2 ranks 3 "${train[@]}" --out "$work/three"
says err 'batch of 16 sequences .* cannot be divided among 3 ranks; the nearest that can: 2 and 4 ranks'
sed 's/lr: 3e-3/lr: 4e-3/' "$work/tiny.yaml" > "$work/other.yaml"
exits 2 mpirun -n 1 "${train[@]}" --out "$work/two" : \
    -n 1 "$seodang" train "$work/other.yaml" --set "data.path=$work/data" --set train.micro_batch=2 --out "$work/two"
says err 'rank 1 on .*the configuration is another one than rank 0.s'
[ "$(grep -c 'is another one' "$work/err")" = 1 ] || fail "told more than once"
[ ! -e "$work/two/metrics.jsonl" ] || fail "trained all the same"
