#!/usr/bin/env bash
# A Slurm cluster on one machine: one slurmctld, N slurmd and a munged, all in one folder and on ports that were free, so that
# several can live side by side and none touches the system's. Debian 12: scripts/setup cluster.
#   tests/cluster/slurm.sh up N FOLDER       starts it and writes FOLDER/env, to be sourced
#   tests/cluster/slurm.sh down FOLDER       ends every process of it, jobs included; the logs stay
#   tests/cluster/slurm.sh check             77 and the reason where this machine cannot have one
# What it costs to know:
#   - cred_expire=5: a requeued job otherwise waits two minutes for its old credentials to expire.
#   - TmpFS=...%n: PMIx makes a folder for each job step there, and two nodes of one machine would make the same one.
#   - btl=tcp on loopback: two "nodes" share a host name, and Open MPI's shared memory names would collide.
#   - yield_when_idle: each node takes the machine for its own, and a rank that waits would spin on a core that another one needs.
#   - Job steps are nobody's children. `down` finds them by SEODANG_CLUSTER=FOLDER in their environment, and slurmstepd, which wipes its
#     own, by the log in FOLDER that it has open.
set -uo pipefail
say() { echo "slurm.sh: $*" >&2; }

check() {
    local program
    for program in slurmctld slurmd munged srun sbatch; do
        PATH=$PATH:/usr/sbin command -v "$program" > /dev/null || { say "$program is not installed: scripts/setup cluster"; exit 77; }
    done
    [ "$(id -u)" = 0 ] || { say "this needs root: slurmd starts job steps as their owner"; exit 77; }
}

# await SECONDS COMMAND...: repeats the command until it succeeds.
await() {
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

# Ports that nobody listens on now, N + 1 of them, from what the kernel hands out.
free_ports() {
    python3 -c '
import socket, sys
taken = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in taken:
    s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in taken])' "$1"
}

write_conf() { # write_conf N FOLDER CONTROLLER_PORT NODE_PORT...
    local n=$1 dir=$2 controller=$3 i
    shift 3
    cat > "$dir/slurm.conf" <<CONF
ClusterName=seodang
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$controller
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
TmpFS=$dir/tmp.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
MpiDefault=pmix
KillWait=10
SlurmdTimeout=10
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
CONF
    for ((i = 1; i <= n; i++)); do
        echo "NodeName=n$i NodeAddr=127.0.0.1 Port=$1 CPUs=$(nproc) RealMemory=2000 State=UNKNOWN" >> "$dir/slurm.conf"
        mkdir -p "$dir/spool.n$i" "$dir/tmp.n$i"
        shift
    done
    echo "CgroupAutomount=no" > "$dir/cgroup.conf"
}

all_idle() { [ "$(sinfo -h -t idle -o %D)" = "$1" ]; }

up() {
    local n=$1 dir i ports
    check
    mkdir -p "$2" && chmod 711 "$2" || exit 1
    dir=$(cd "$2" && pwd -P)
    export SLURM_CONF=$dir/slurm.conf SEODANG_CLUSTER=$dir PATH=$PATH:/usr/sbin
    mkdir -p "$dir/munge" "$dir/state"
    head -c 1024 /dev/urandom > "$dir/munge/key"
    chmod 600 "$dir/munge/key"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" 2> "$dir/munge/err" || { cat "$dir/munge/err" >&2; exit 1; }
    read -ra ports <<< "$(free_ports $((n + 1)))"
    write_conf "$n" "$dir" "${ports[@]}"
    cat > "$dir/env" <<ENV
export SLURM_CONF=$dir/slurm.conf SEODANG_CLUSTER=$dir PATH=\$PATH:/usr/sbin
export OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1
ENV
    setsid slurmctld -D > "$dir/slurmctld.out" 2>&1 < /dev/null &
    for ((i = 1; i <= n; i++)); do setsid slurmd -D -N "n$i" > "$dir/slurmd.n$i.out" 2>&1 < /dev/null & done
    await 30 all_idle "$n" && return
    say "not up after 30 s:"
    tail -n 5 "$dir"/*.out "$dir"/*.log >&2
    down "$dir"
    exit 1
}

# The processes of the cluster in FOLDER; zombies have neither environment nor files.
members() {
    local proc
    for proc in /proc/[0-9]*; do
        [ "${proc#/proc/}" != $$ ] || continue
        if { tr '\0' '\n' < "$proc/environ" | grep -qxF "SEODANG_CLUSTER=$1"; } 2> /dev/null; then
            echo "${proc#/proc/}"
        elif { grep -qx slurmstepd "$proc/comm" && readlink "$proc"/fd/* | grep -qF "$1/"; } 2> /dev/null; then
            echo "${proc#/proc/}"
        fi
    done
}

no_jobs() { [ -z "$(squeue -h)" ]; }
none_left() { [ -z "$(members "$1")" ]; }

down() {
    local dir
    dir=$(cd "$1" && pwd -P) || exit 1
    unset SEODANG_CLUSTER
    none_left "$dir" && return
    export SLURM_CONF=$dir/slurm.conf PATH=$PATH:/usr/sbin
    if [ -n "$(squeue -h 2> /dev/null)" ]; then # ended by their own Slurm, so that no step waits for it
        squeue -h -o %i | xargs -r scancel --full --signal=KILL 2> /dev/null
        await 5 no_jobs
    fi
    kill $(members "$dir") 2> /dev/null
    await 3 none_left "$dir" && return
    kill -KILL $(members "$dir") 2> /dev/null
    await 10 none_left "$dir" || { say "still there: $(members "$dir")"; exit 1; }
}

case "${1:-}" in
up) up "${2:?nodes}" "${3:?folder}" ;;
down) down "${2:?folder}" ;;
check) check ;;
*) echo "usage: slurm.sh up N FOLDER | down FOLDER | check" >&2; exit 2 ;;
esac
