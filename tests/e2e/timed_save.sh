#!/usr/bin/env bash
# Saving by the clock: checkpoints come between the steps that would save by count, and change nothing in what is learned.
. "$(dirname "$0")/lib.sh"
make_data
make_config "$work/tiny.yaml"
ok "$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --out "$work/plain"
ok "$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --set checkpoint.every=0 --set checkpoint.every_seconds=10ms \
    --out "$work/timed"
saves=$(grep -c 'checkpoint of step' "$work/timed/log.txt")
[ "$saves" -ge 3 ] || fail "$saves saves by the clock, at least 3 were due"
ok "$seodang" checkpoint diff "$work/plain" "$work/timed"
says out 'identical'
metrics "$work/plain/metrics.jsonl" > "$work/a"
metrics "$work/timed/metrics.jsonl" > "$work/b"
cmp "$work/a" "$work/b" || fail "other metrics"
