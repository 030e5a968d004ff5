#!/usr/bin/env bash
# One rank of two meets damaged data in the middle of a run: both save the last whole step together, the job ends with 75, and with the
# data restored it goes on to the checkpoint of a run that met nothing.
. "$(dirname "$0")/lib.sh"
command -v mpirun > /dev/null || { echo "skipped: no mpirun"; exit 77; }
[ -e "$(dirname "$seodang")/libseodang_mpi.so" ] || { echo "skipped: built without MPI"; exit 77; }
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none

make_data 3000
make_config "$work/tiny.yaml"
cp -r "$work/data" "$work/whole"
python3 - "$work/data/train-00000.h5" <<'DAMAGE' || fail "cannot damage"
import sys
with open(sys.argv[1], "r+b") as f: # the second block of 65,536 tokens of two bytes
    f.seek(4096 + 65536 * 2 + 5)
    b = f.read(1)
    f.seek(-1, 1)
    f.write(bytes([b[0] ^ 1]))
DAMAGE
# In the order of the file, 1,024 tokens a step: the second rank comes to the second block first.
train=(mpirun -n 2 "$seodang" train "$work/tiny.yaml" --set data.shuffle=false --set train.batch_tokens=1024 --set train.steps=90
    --set eval.every=0 --set checkpoint.every=50 --set parallel.timeout=20s)
exits 75 "${train[@]}" --set "data.path=$work/data" --out "$work/run"
says err 'rank 1 on .* cannot go on: .*block 1 is damaged'
says err 'ended with a checkpoint of its last whole step; exit status 75'
newest=$(ls "$work/run/checkpoints" | grep '^step-' | sort | tail -n 1)
[ "$((10#${newest#step-}))" -gt 50 ] || fail "nothing newer than step 50 was saved: $newest"
ok "$seodang" checkpoint verify "$work/run"

rm -r "$work/data"
mv "$work/whole" "$work/data"
ok "${train[@]}" --set "data.path=$work/data" --out "$work/run"
ok "${train[@]}" --set "data.path=$work/data" --out "$work/plain"
ok "$seodang" checkpoint diff "$work/run" "$work/plain"
says out identical
