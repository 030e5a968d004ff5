#!/usr/bin/env bash
# A disk that fails under a training run: the failed save is loud, training goes on, the earlier checkpoint stays whole, and the
# end is that of a run on a healthy disk. The third argument is the library that makes system calls fail.
. "$(dirname "$0")/lib.sh"
fault=$3
make_data
make_config "$work/tiny.yaml"
train=("$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --out)
ok "${train[@]}" "$work/reference"

# failing STEP MODE ERROR K COMMAND...: the K-th call on the unfinished save of STEP (empty: any) fails, with MODE `on` all after it too.
failing() {
    env LD_PRELOAD="$fault" SEODANG_FAULT_PATH="/checkpoints/tmp.$1" SEODANG_FAULT_MODE="$2" SEODANG_FAULT_ERROR="$3" \
        SEODANG_FAULT_AT="$4" "${@:5}"
}

# One call fails, in one of the three saves: the run ends well. Only closing a file that was read may fail in silence.
loud=0
for case in "8. ENOSPC 1" "16. EIO 2" "24. ENOSPC 5" "8. EIO 12" "16. ENOSPC 30" "24. EIO 60" "16. EIO 90"; do
    read -r step error k <<< "$case"
    ok failing "$step" once "$error" "$k" "${train[@]}" "$work/once$step$k"
    grep -q "step ${step%.} .*NOT saved" "$work/err" && loud=$((loud + 1))
    ok "$seodang" checkpoint verify "$work/once$step$k"
    ok "$seodang" checkpoint diff "$work/once$step$k" "$work/reference"
done
[ "$loud" -ge 5 ] || fail "of 7 failing calls only $loud were reported"

# The disk is full from the start: all steps are done, nothing is saved, and that is a failed run.
exits 1 failing "" on ENOSPC 1 "${train[@]}" "$work/full"
says err 'step 8 .*NOT saved, failure 1 in a row.*No space left on device'
says err 'step 24 .*NOT saved'
[ "$(wc -l < "$work/full/metrics.jsonl")" = 24 ] || fail "training did not go on"
ok "${train[@]}" "$work/full"
ok "$seodang" checkpoint diff "$work/full" "$work/reference"

# It breaks before the last save: what was saved before stays, and the next start goes on from there.
exits 1 failing 24. on EIO 1 "${train[@]}" "$work/later"
says err 'step 24 .*NOT saved.*Input/output error'
ok "$seodang" checkpoint verify "$work/later"
[ "$(ls "$work/later/checkpoints" | grep -c '^step-')" = 2 ] || fail "kept: $(ls "$work/later/checkpoints")"
ok "${train[@]}" "$work/later"
ok "$seodang" checkpoint diff "$work/later" "$work/reference"
metrics "$work/later/metrics.jsonl" > "$work/a"
metrics "$work/reference/metrics.jsonl" > "$work/b"
cmp "$work/a" "$work/b" || fail "other metrics than on a healthy disk"
