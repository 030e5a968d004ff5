#!/usr/bin/env bash
# What scripts/slurm.sbatch and scripts/run_mpi decide, with launchers that only note what they were asked: which ends of the ranks are
# tried again, how often, what the job is submitted with. Real launchers: slurm_job.sh, and every test that uses mpirun.
. "$(dirname "$0")/../e2e/lib.sh"
fakes=$work/fakes
mkdir "$fakes"
fake() { cat > "$fakes/$1"; chmod +x "$fakes/$1"; }

# The program: says how it was called, makes the checkpoint that MAKES names, ends with the first code of RC that is left.
fake seodang <<'FAKE'
#!/usr/bin/env bash
echo "program: $* threads=$OMP_NUM_THREADS"
[ -z "${MAKES:-}" ] || mkdir -p "$4/checkpoints/step-$MAKES"
trap 'exit 75' USR1
if [ -n "${WAITS:-}" ]; then echo ready; while :; do sleep 0.02; done; fi
read -r code rest < "$FAKES/codes"
echo "$rest" > "$FAKES/codes"
exit "$code"
FAKE
fake srun <<'FAKE'
#!/usr/bin/env bash
echo "srun: $1 $2"
shift 2
exec "$@"
FAKE
fake scontrol <<'FAKE'
#!/usr/bin/env bash
echo "scontrol: $*"
FAKE
fake sbatch <<'FAKE'
#!/usr/bin/env bash
echo "sbatch: $*"
FAKE
fake mpirun <<'FAKE'
#!/usr/bin/env bash
[ "$1" != --version ] || { echo "mpirun (Open MPI) 0"; exit 0; }
echo "mpirun: $*"
while [ "$1" != "$SEODANG" ]; do shift; done
"$@"
FAKE
export FAKES=$fakes PATH=$fakes:$PATH SEODANG=$fakes/seodang
cd "$work" || exit 1
touch "$fakes/libseodang_mpi.so"

# Submitting: twice the time of a save before the limit, and GPUs only where asked.
sbatch=$root/scripts/slurm.sbatch
ok env NODES=4 GPUS=8 TIME=60 SAVE_S=40 SBATCH="--partition=a --account=b" "$sbatch" c.yaml run --set a=b
says out '^sbatch: --nodes=4 --ntasks-per-node=8 --signal=B:USR1@80 --gres=gpu:8 --time=60 --partition=a --account=b .*slurm.sbatch c.yaml run --set a=b$'
ok "$sbatch" c.yaml run
says out '^sbatch: --nodes=1 --ntasks-per-node=1 --signal=B:USR1@300 [^ ]*slurm.sbatch c.yaml run$'
exits 2 "$sbatch" c.yaml

# In a job: job CODE RESTARTS -> exit status, and whether it went back into the queue.
in_job=(env SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_JOB_NODELIST='n[1-4]')
job() {
    echo "$1" > "$fakes/codes"
    "${in_job[@]}" SLURM_RESTART_COUNT="$2" "${@:3}" "$sbatch" c.yaml run --set a=b
}
requeued() { grep -q '^scontrol: requeue 7$' "$work/out"; }
ok job 0 0
says out '^srun: --kill-on-bad-exit=1 --mpi=pmix$'
says out '^program: train c.yaml --out run --set a=b threads=1$'
requeued && fail "a finished run went back into the queue"
for code in 75 97 137; do
    ok job $code 0 MAKES=0000000$code
    requeued || fail "not requeued after $code"
done
for code in 1 2; do
    exits $code job $code 0
    requeued && fail "requeued after $code"
done
exits 75 job 75 3 MAX_TRIES=3 MAKES=00001000
requeued && fail "requeued beyond MAX_TRIES"
# Two attempts without a new checkpoint go back, the third does not; one that gets on starts the count anew.
ok job 97 0
ok job 97 1
exits 97 job 97 2
says out '3 attempts in a row without a new checkpoint'
ok job 97 0 MAKES=00002000
ok job 97 1
requeued || fail "the count of idle attempts did not start anew"
ok job 97 0 MAKES=00003000 OMP_NUM_THREADS=3
says out 'threads=3$'

# The signal before the limit reaches the ranks, and their code counts, not the signal's.
: > "$work/signalled"
"${in_job[@]}" WAITS=1 MAKES=00004000 "$sbatch" c.yaml run > "$work/signalled" 2>&1 &
batch=$!
until grep -q ready "$work/signalled"; do kill -0 $batch || fail "the job ended: $(cat "$work/signalled")"; sleep 0.02; done
kill -USR1 $batch
wait $batch || fail "exit $? after the signal: $(cat "$work/signalled")"
grep -q '^scontrol: requeue 7$' "$work/signalled" || fail "not requeued after the signal: $(cat "$work/signalled")"

# mpirun: the program's code, and tried again only when asked and only when ranks were lost.
run_mpi=$root/scripts/run_mpi
mpi() { # mpi CODES [VARIABLE=VALUE...]
    echo "$1" > "$fakes/codes"
    env "${@:2}" "$run_mpi" 2 c.yaml run --set a=b
}
ok mpi 0
says out '^program: train c.yaml --out run --set a=b threads='
exits 75 mpi 75
exits 97 mpi "97 0"
ok mpi "97 137 75 0" RESTARTS=3
[ "$(grep -c '^program:' "$work/out")" = 4 ] || fail "not four starts"
exits 1 mpi "97 1 0" RESTARTS=3
ok mpi 0 HOSTS=a:4,b:4 OMP_NUM_THREADS=1
says out '^mpirun: .*--host a:4,b:4 .*oob_tcp_keepalive_time'
exits 2 "$run_mpi" two c.yaml run
exits 2 env SEODANG=/nowhere "$run_mpi" 2 c.yaml run
rm "$fakes/libseodang_mpi.so"
exits 2 mpi 0
says err 'built without MPI'
