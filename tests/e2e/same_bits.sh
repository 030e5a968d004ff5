#!/usr/bin/env bash
# 1, 2 and 3 threads: the same metrics and the same checkpoint, byte for byte; also when stopped and resumed on the way.
. "$(dirname "$0")/lib.sh"
make_data
make_config "$work/tiny.yaml"
for threads in 1 2 3; do
    ok "$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --out "$work/run$threads" --threads "$threads"
    metrics "$work/run$threads/metrics.jsonl" > "$work/metrics$threads"
    cmp "$work/metrics1" "$work/metrics$threads" || fail "$threads threads: other metrics than one thread"
    ok "$seodang" checkpoint diff "$work/run1" "$work/run$threads"
    says out 'identical'
    cmp "$work"/run1/checkpoints/step-00000024/part-*.h5 "$work/run$threads"/checkpoints/step-00000024/part-*.h5 ||
        fail "$threads threads: other bytes in the checkpoint file"
done
