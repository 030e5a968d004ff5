#!/usr/bin/env bash
# The whole main job with the commands as users type them: text, tokenizer, shards, training, resume, evaluation, generation.
. "$(dirname "$0")/lib.sh"
make_config "$work/tiny.yaml"

# Tokenizer: 257 entries are the plain bytes, a byte's id is its value.
make_text "$work/book.txt" 2000
ok "$seodang" tokenizer train --vocab-size 257 --out "$work/bytes.json" "$work/book.txt"
printf '{"text": "Az\\u00e9\\n"}\n' > "$work/in.jsonl"
ok "$seodang" tokenizer encode --tokenizer "$work/bytes.json" --jsonl "$work/in.jsonl"
[ "$(tr -d ' ' < "$work/out")" = '{"ids":[65,122,195,169,10]}' ] || fail "encode: $(cat "$work/out")"
cp "$work/out" "$work/ids.jsonl"
ok "$seodang" tokenizer decode --tokenizer "$work/bytes.json" --jsonl "$work/ids.jsonl"
[ "$(python3 -c 'import json,sys; print(json.loads(open(sys.argv[1]).read())["text"] == "Az\u00e9\n")' "$work/out")" = True ] ||
    fail "decode: $(cat "$work/out")"

# Data.
ok "$seodang" data build --tokenizer "$work/bytes.json" --out "$work/data" --held-out 0.1 --held-out-mode tail "$work/book.txt"
ok "$seodang" data verify "$work/data"
ok "$seodang" data inspect "$work/data"
ok "$seodang" data text "$work/data" --split train
cp "$work/out" "$work/train.txt"
ok "$seodang" data text "$work/data" --split held-out
cat "$work/train.txt" "$work/out" | cmp - "$work/book.txt" || fail "train + held-out is not the book"
exits 1 "$seodang" data build --tokenizer "$work/bytes.json" --out "$work/data" "$work/book.txt"

# Training, and again with the same words: it is finished. More steps under the same schedule are refused: the schedule would change.
train=("$seodang" train "$work/tiny.yaml" --set "data.path=$work/data" --out "$work/run")
ok "${train[@]}"
[ "$(wc -l < "$work/run/metrics.jsonl")" = 24 ] || fail "metrics has $(wc -l < "$work/run/metrics.jsonl") lines, not 24"
python3 - "$work/run/metrics.jsonl" <<'CHECK' || fail "metrics"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert [r["step"] for r in lines] == list(range(1, 25))
assert all({"step", "loss", "grad_norm", "lr", "tokens"} <= r.keys() for r in lines)
assert lines[-1]["tokens"] == 24 * 512
assert abs(lines[0]["loss"] - 5.55) < 0.1, lines[0]  # ln 257
assert lines[-1]["loss"] < 4.0, lines[-1]
assert "eval_loss" in lines[11] and "eval_loss" in lines[23]
CHECK
ok "${train[@]}"
[ "$(ls "$work/run/checkpoints" | tr '\n' ' ')" = "step-00000016 step-00000024 " ] || fail "kept: $(ls "$work/run/checkpoints")"
exits 2 "${train[@]}" --set optimizer.lr=1e-3
says err 'optimizer\.lr'

# Evaluation and generation from the run folder alone.
ok "$seodang" eval "$work/run" --data "$work/data" --split held-out --json
python3 - "$work/out" "$work/book.txt" <<'CHECK' || fail "eval --json"
import json, math, os, sys
r = json.load(open(sys.argv[1]))
assert math.isclose(r["perplexity"], math.exp(r["loss"]), rel_tol=1e-6)
held_out = r["bytes"]
assert abs(held_out - os.path.getsize(sys.argv[2]) / 10) < 64, held_out
assert r["tokens"] == held_out + 1, r  # every byte and the end of the document
assert math.isclose(r["bits_per_byte"], r["loss"] * r["tokens"] / math.log(2) / held_out, rel_tol=1e-6)
CHECK
ok "$seodang" generate "$work/run" --prompt "the king" --max-tokens 40 --seed 1
cp "$work/out" "$work/first"
says out '^the king'
ok "$seodang" generate "$work/run" --prompt "the king" --max-tokens 40 --seed 1
cmp "$work/out" "$work/first" || fail "the same seed spoke differently"

# Checkpoints.
ok "$seodang" checkpoint verify "$work/run"
ok "$seodang" checkpoint inspect "$work/run"
ok "$seodang" checkpoint diff "$work/run" "$work/run/checkpoints/step-00000024"
says out 'identical'
exits 1 "$seodang" checkpoint diff "$work/run/checkpoints/step-00000016" "$work/run"
ok "$seodang" checkpoint reshard --parts 3 --out "$work/three" "$work/run"
ok "$seodang" checkpoint diff "$work/run" "$work/three"
says out 'identical'
exits 2 "$seodang" checkpoint reshard --parts 2 --out "$work/three" "$work/run"
ok "$seodang" checkpoint average --out "$work/mean" "$work/run"/checkpoints/step-*
ok "$seodang" generate "$work/mean" --prompt "the king" --max-tokens 5 --seed 1
ok "$seodang" generate "$work/three" --prompt "the king" --max-tokens 40 --seed 1
cmp "$work/out" "$work/first" || fail "the same values in other parts spoke differently"

# Mistakes: exit 2, all of them, with their places.
printf 'model: {num_layer: 2}\ntrain: {steps: fast}\n' > "$work/bad.yaml"
exits 2 "$seodang" config check "$work/bad.yaml"
says err 'bad\.yaml:1:9: error'
says err 'num_layers'
says err 'bad\.yaml:2:16: error'
exits 2 "$seodang" trian
says err 'train'
exits 2 "$seodang" train "$work/tiny.yaml" --outt x
says err '[-]-out'
