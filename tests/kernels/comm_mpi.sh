#!/usr/bin/env bash
# Runs test_comm_mpi under a launcher, more ranks than cores allowed.
#   comm_mpi.sh MPIRUN PROGRAM PLUGIN RANKS [how]
set -u
mpirun=$1 program=$2 plugin=$3 ranks=$4
shift 4
[ -x "$mpirun" ] || { echo "skipped: there is no $mpirun (apt-get install openmpi-bin or mpich)"; exit 77; }
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
flags=()
case "$("$mpirun" --version 2> /dev/null)" in
*"Open MPI"* | *OpenRTE*)
    # What it refuses by default: root, as in a container, and more ranks than cores.
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    flags=(--oversubscribe --bind-to none) ;;
esac
exec "$mpirun" ${flags[@]+"${flags[@]}"} -n "$ranks" "$program" "$plugin" "$ranks" "$@"
