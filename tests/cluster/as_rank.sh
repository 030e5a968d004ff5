#!/usr/bin/env bash
# What a launcher starts in place of the program: leaves the process id under the rank's number in SEODANG_PIDS, and puts what
# SEODANG_AS_<rank> holds (a tracer, an environment, a namespace of its own) before the command of that rank.
rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${SLURM_PROCID:-${RANK:-0}}}}
before=SEODANG_AS_$rank
echo $$ > "$SEODANG_PIDS/$rank.new" && mv "$SEODANG_PIDS/$rank.new" "$SEODANG_PIDS/$rank"
eval "exec ${!before:-}"' "$@"'
