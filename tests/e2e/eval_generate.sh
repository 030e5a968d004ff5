#!/usr/bin/env bash
# Evaluation and generation as a user meets them: splits, sources, other tokenizers; long texts, sampling, whole characters.
. "$(dirname "$0")/lib.sh"
make_config "$work/tiny.yaml"
make_text "$work/book.txt" 600
awk 'BEGIN { for (i = 0; i < 400; i++) printf "서당 개 %d년이면 풍월을 읊는다.\n", i % 7 }' > "$work/ko.txt"
ok "$seodang" tokenizer train --vocab-size 257 --out "$work/bytes.json" "$work/book.txt"
ok "$seodang" data build --tokenizer "$work/bytes.json" --out "$work/data" --held-out 0.2 "$work/book.txt" "$work/ko.txt"
ok "$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --set train.steps=60 --set model.dropout=0 \
    --set eval.every=0 --out "$work/run"

# Both splits, whole; the sources' tokens add up.
for split in train held-out; do
    ok "$seodang" eval "$work/run" --data "$work/data" --split "$split" --json
    cp "$work/out" "$work/$split.json"
    ok "$seodang" data text "$work/data" --split "$split"
    python3 - "$work/$split.json" "$work/out" <<'CHECK' || fail "eval of $split"
import json, os, sys
r = json.load(open(sys.argv[1]))
assert sum(s["tokens"] for s in r["sources"]) == r["tokens"], r
assert r["bytes"] == os.path.getsize(sys.argv[2]), (r, os.path.getsize(sys.argv[2]))
assert {os.path.basename(s["path"]) for s in r["sources"]} == {"book.txt", "ko.txt"}, r
low, high = r["loss_ci95"]
assert low < r["loss"] < high and r["step"] == 60, r
CHECK
done
ok "$seodang" eval "$work/run" --data "$work/data" --threads 1
says out 'perplexity +[0-9]'
says out 'ko\.txt'
ok "$seodang" eval "$work/run" --data "$work/data" --threads 3 --json
cmp "$work/out" "$work/held-out.json" || fail "three threads evaluate otherwise"

# A dataset of another tokenizer, a split that is none, a folder that holds no run.
ok "$seodang" tokenizer train --vocab-size 300 --out "$work/merges.json" "$work/book.txt"
ok "$seodang" data build --tokenizer "$work/merges.json" --out "$work/other" --held-out 0.2 "$work/book.txt"
exits 2 "$seodang" eval "$work/run" --data "$work/other"
exits 2 "$seodang" eval "$work/run" --data "$work/data" --split all
says err 'held-out'
exits 1 "$seodang" eval "$work" --data "$work/data"
exits 1 "$seodang" generate "$work/nowhere" --prompt x

# The context is 32 tokens; texts go on beyond it. What is printed is whole characters.
ok "$seodang" generate "$work/run" --prompt "서당" --max-tokens 300 --temperature 1.5 --top-k 0 --ignore-eot --seed 2
cp "$work/out" "$work/long"
iconv -f UTF-8 -t UTF-8 < "$work/long" > /dev/null || fail "generated text is not UTF-8"
[ "$(head -c 6 "$work/long")" = "서당" ] || fail "the prompt does not come first: $(head -c 40 "$work/long")"
ok "$seodang" generate "$work/run" --prompt "서당" --max-tokens 300 --temperature 1.5 --top-k 0 --ignore-eot --seed 2 --json --threads 3
python3 - "$work/out" "$work/long" <<'CHECK' || fail "generate --json"
import json, sys
r = json.load(open(sys.argv[1]))
assert r["tokens"] == 300 == len(r["ids"]) and r["finish"] == "length" and r["seed"] == 2, r
assert r["text"] + "\n" == open(sys.argv[2]).read()
CHECK
ok "$seodang" generate "$work/run" --prompt "서당" --max-tokens 300 --temperature 1.5 --top-k 0 --ignore-eot --seed 3
! cmp -s "$work/out" "$work/long" || fail "another seed spoke the same"
ok "$seodang" generate "$work/run" --prompt "the king" --temperature 0 --seed 5 --max-tokens 50
cp "$work/out" "$work/greedy"
ok "$seodang" generate "$work/run" --prompt "the king" --temperature 1 --top-k 1 --seed 6 --max-tokens 50
cmp "$work/out" "$work/greedy" || fail "top-k 1 is not greedy"
ok "$seodang" generate "$work/run" --max-tokens 5
ok "$seodang" generate "$work/run" --prompt "only this" --max-tokens 0
[ "$(cat "$work/out")" = "only this" ] || fail "no tokens: $(cat "$work/out")"
exits 2 "$seodang" generate "$work/run" --top-p 0
exits 2 "$seodang" generate "$work/run" --device gpu
says err 'auto, cpu or cuda'
exits 2 "$seodang" generate "$work/run" --temperature -1

# Where there is no GPU, asking for one is one clear line, and nothing is left behind; wishing for one is no obstacle.
if [ ! -e /dev/nvidiactl ]; then
    for command in "eval $work/run --data $work/data" "generate $work/run"; do
        exits 2 "$seodang" $command --device cuda
        says err '^error: cuda: '
    done
    exits 2 "$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --set device=cuda --out "$work/gpu"
    says err '^error: cuda: '
    exits 2 "$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --set precision=bf16 --out "$work/gpu"
    says err 'bf16 needs a GPU'
    [ ! -e "$work/gpu/checkpoints" ] && [ ! -e "$work/gpu/config.yaml" ] || fail "a run without a device left files"
    ok "$seodang" eval "$work/run" --data "$work/data" --device auto --json
    cmp "$work/out" "$work/held-out.json" || fail "device auto evaluates otherwise"
fi
