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

# A watch for spikes so strict that noise is one: the same steps are left out on any number of ranks, also after a stop.
noise=(--set optimizer.lr=1e-6 --set schedule.name=constant --set train.steps=48 --set eval.every=0 --set train.on_spike=skip
    --set train.spike_window=16 --set train.spike_sigma=0.5 --set train.max_bad_steps=48 "${invariant[@]}")
ok ranks 2 "${train[@]}" "${noise[@]}" --out "$work/n2"
says err 'warning: step [0-9]+: loss .* is a spike.*the update is left out'
[ "$(grep -c '"skipped": true, "spike": true' "$work/n2/metrics.jsonl")" -ge 1 ] || fail "no step was left out"
ok ranks 4 "${train[@]}" "${noise[@]}" --set train.steps=21 --out "$work/n4"
ok ranks 1 "${train[@]}" "${noise[@]}" --out "$work/n4"
ok "$seodang" checkpoint diff "$work/n2" "$work/n4"
says out identical

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

# What is not the same on all hosts: a folder for each rank stands for their disks.
two() { exits "$1" mpirun -n 1 -wdir "$work/A" "${@:2}" : -n 1 -wdir "$work/B" "${@:2}"; }
mkdir "$work/A" "$work/B"
cp -r "$work/data" "$work/A/data"
cp -r "$work/data" "$work/B/data"
rm "$work/B/data/train-00000.h5"
two 1 "$seodang" train "$work/tiny.yaml" --out "$work/two"
says err 'rank 1 on .*data/train-00000.h5: the manifest names this shard, but it is not there'
rm -r "$work/B/data"
make_text "$work/other.txt" 1500
ok "$seodang" data build --tokenizer "$work/bytes.json" --out "$work/B/data" --held-out 0.1 --held-out-mode tail "$work/other.txt"
two 2 "$seodang" train "$work/tiny.yaml" --out "$work/two"
says err 'rank 1 on .*the dataset .* is another one than rank 0.s'
rm -r "$work/B/data"
ok "$seodang" tokenizer train --vocab-size 258 --out "$work/other.json" "$work/other.txt"
ok "$seodang" data build --tokenizer "$work/other.json" --out "$work/B/data" --held-out 0.1 --held-out-mode tail "$work/book.txt"
two 2 "$seodang" train "$work/tiny.yaml" --set model.vocab_size=260 --out "$work/two"
says err 'rank 1 on .*the tokenizer is another one than rank 0.s'
two 2 "$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --out here
says err 'here is not the folder that rank 0 has under this name'
[ ! -e "$work/two/metrics.jsonl" ] || fail "trained all the same"
exits 2 mpirun -n 2 "$seodang" eval "$work/i1" --data "$work/data"
says err 'the work of one process'

# torchrun's variables alone: ranks on CPUs need MPI, and are told.
export MASTER_ADDR=127.0.0.1 MASTER_PORT WORLD_SIZE=2
MASTER_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
torch=("$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --out "$work/torch")
RANK=1 LOCAL_RANK=1 "${torch[@]}" 2> "$work/rank1" &
other=$!
exits 2 env RANK=0 LOCAL_RANK=0 "${torch[@]}"
says err 'exchange their data through MPI, and no MPI launcher has started them; start them with mpirun'
wait "$other"
[ $? = 2 ] || fail "rank 1 left with another code"
unset MASTER_ADDR MASTER_PORT WORLD_SIZE

# A signal to one rank: all save once and ask to be started again; what goes on has the same bits.
mpirun -n 4 "${train[@]}" "${invariant[@]}" --set train.steps=2000 --set schedule.name=constant --set eval.every=0 \
    --set checkpoint.every=0 --out "$work/stopped" > "$work/out" 2> "$work/err" &
job=$!
for _ in $(seq 200); do [ -s "$work/stopped/metrics.jsonl" ] && break; sleep 0.1; done
pids=($(pgrep -P "$job"))
[ "${#pids[@]}" = 4 ] || fail "mpirun has ${#pids[@]} children"
kill -USR1 "${pids[2]}"
wait "$job"
[ $? = 75 ] || fail "a stopped job left with another code: $(cat "$work/err")"
says err 'SIGUSR1 to rank [0-3] on .*: saving a checkpoint of step'
[ "$(ls "$work/stopped/checkpoints" | wc -l)" = 1 ] || fail "more than one checkpoint"
