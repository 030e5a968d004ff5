#!/usr/bin/env bash
# Runs that learn a task: completions of prompts, labels of texts. A run in parts has the bits of one in one go; eval and classify agree
# with each other; what does not fit (another tokenizer, a label that is no class, a text without its second one, adapters without their
# base) is named with what to do.
. "$(dirname "$0")/lib.sh"
make_data
make_config "$work/tiny.yaml"
python3 - "$work" <<'MAKE' || fail "the examples"
import json, random, sys
rnd = random.Random(5)
who, did = ["the king", "a river", "our teacher", "her son"], ["saw", "read", "called", "kept"]
def text(label):
    object = rnd.choice(["a stone", "the gate"] if label == "thing" else ["his people", "my brother"])
    return f"{rnd.choice(who)} {rnd.choice(did)} {object}"
for name, count in (("train", 96), ("unseen", 30)):
    with open(f"{sys.argv[1]}/{name}.tsv", "w") as labels, open(f"{sys.argv[1]}/{name}.jsonl", "w") as pairs:
        for i in range(count):
            label = "thing" if i % 3 else "person"
            labels.write(f"{label}\t{text(label)}\n")
            prompt = rnd.choice(who)
            pairs.write(json.dumps({"prompt": prompt, "completion": f" {rnd.choice(did)}."}) + "\n")
with open(f"{sys.argv[1]}/texts.txt", "w") as file:
    for line in open(f"{sys.argv[1]}/unseen.tsv"):
        file.write(line.split("\t")[1])
MAKE

run=("$seodang" train "$work/tiny.yaml" --set train.micro_batch=8)
ok "${run[@]}" --set "data.path=$work/data" --out "$work/base"
task=("${run[@]}" --set data.path=null --set "checkpoint.init_from=$work/base" --set train.steps=16 --set eval.every=4 --set schedule.warmup_steps=2
    --set schedule.decay_steps=16)
classify=(--set task.kind=classify --set "task.labels=thing, person" --set "task.examples=$work/train.tsv" --set "task.held_out=$work/unseen.tsv")
pairs=(--set task.kind=pairs --set "task.examples=$work/train.jsonl" --set "task.held_out=$work/unseen.jsonl")

for kind in classify pairs; do
    declare -n sets=$kind
    ok "${task[@]}" "${sets[@]}" --out "$work/$kind"
    says err 'data        .*/train\.(tsv|jsonl), 96 examples'
    says err '^model       gpt2, 2 layers'
    # The source is not needed to go on.
    ok "${task[@]}" "${sets[@]}" --set train.steps=8 --out "$work/$kind-parts"
    mv "$work/base" "$work/away"
    ok "${task[@]}" "${sets[@]}" --out "$work/$kind-parts"
    mv "$work/away" "$work/base"
    ok "$seodang" checkpoint diff "$work/$kind" "$work/$kind-parts"
    says out identical
    metrics "$work/$kind/metrics.jsonl" > "$work/a"
    metrics "$work/$kind-parts/metrics.jsonl" > "$work/b"
    cmp "$work/a" "$work/b" || fail "the metrics of $kind in parts differ"
done
python3 - "$work" <<'CHECK' || fail "the metrics of the tasks"
import json, sys
last = lambda run: json.loads(open(f"{sys.argv[1]}/{run}/metrics.jsonl").readlines()[-1])
classes, pairs = last("classify"), last("pairs")
assert set(classes) >= {"eval_loss", "eval_accuracy", "eval_f1_macro", "eval_f1", "eval_matthews"}, classes
assert "eval_perplexity" not in classes and "eval_bits_per_byte" not in classes, classes
assert "eval_perplexity" in pairs and "eval_bits_per_byte" not in pairs, pairs
CHECK

# The table of eval and the lines of classify are of one mind.
ok "$seodang" eval "$work/classify" --json
mv "$work/out" "$work/eval.json"
ok "$seodang" classify "$work/classify" "$work/texts.txt" --json
python3 - "$work" <<'CHECK' || fail "eval and classify disagree"
import json, math, sys
work = sys.argv[1]
told = json.load(open(f"{work}/eval.json"))
guesses = [json.loads(line) for line in open(f"{work}/out")]
labels = [line.split("\t")[0] for line in open(f"{work}/unseen.tsv")]
assert len(guesses) == len(labels) == told["examples"] == 30
right = sum(g["label"] == l for g, l in zip(guesses, labels))
assert abs(told["accuracy"] - right / 30) < 1e-12, (told, right)
assert sum(map(sum, told["confusion"])) == 30 and told["confusion"][0][0] + told["confusion"][1][1] == right
nats = -sum(math.log(g["probabilities"][l]) for g, l in zip(guesses, labels)) / 30
assert abs(nats - told["loss"]) < 1e-4, (nats, told["loss"])
CHECK
ok "$seodang" eval "$work/pairs"
says out 'completions'
ok "$seodang" eval "$work/pairs" --data "$work/data"
says out 'bits per byte'
ok "$seodang" generate "$work/pairs" --prompt "the king" --max-tokens 4

# What does not fit.
refused() { local code=$1 pattern=$2; shift 2; exits "$code" "$@"; says err "$pattern"; }
ok "$seodang" tokenizer train --vocab-size 300 --out "$work/other.json" "$work/book.txt"
ok "$seodang" data build --tokenizer "$work/other.json" --out "$work/other" "$work/book.txt"
refused 2 'another tokenizer.*seodang data build --tokenizer .*/tokenizer.json' "${run[@]}" --set model.vocab_size=300 \
    --set "data.path=$work/other" --set "checkpoint.init_from=$work/base" --out "$work/no"
refused 2 'model.family is gpt2 there, gpt1 here' "${task[@]}" "${classify[@]}" --set model.family=gpt1 --out "$work/no"
refused 2 'no tokenizer.json .*data.path: null to take that of checkpoint.init_from' "${task[@]}" "${classify[@]}" --set data.path="$work/nowhere" \
    --out "$work/no"
printf 'thing\ta stone\nanimal\ta dog\n' > "$work/bad.tsv"
refused 2 'bad.tsv:2.*animal' "${task[@]}" "${classify[@]}" --set "task.examples=$work/bad.tsv" --out "$work/no"
printf 'thing\ta stone\ta gate\nperson\tmy brother\n' > "$work/bad.tsv"
refused 1 'bad.tsv:2.*second' "${task[@]}" "${classify[@]}" --set "task.examples=$work/bad.tsv" --out "$work/no"
echo '{"prompt": "the king"}' > "$work/bad.jsonl"
refused 1 'bad.jsonl:1.*completion' "${task[@]}" "${pairs[@]}" --set "task.examples=$work/bad.jsonl" --out "$work/no"
printf 'thing\ta stone\n' > "$work/few.tsv"
refused 2 'other examples' "${task[@]}" "${classify[@]}" --set train.steps=20 --set "task.examples=$work/few.tsv" --out "$work/classify"
refused 2 'gives labels' "$seodang" eval "$work/classify" --data "$work/data"
refused 2 'not trained to give labels' "$seodang" classify "$work/pairs" --text x
refused 2 'either --text' "$seodang" classify "$work/classify"

# Adapters of the classes: small checkpoints, useless without what they belong to.
ok "${task[@]}" "${classify[@]}" --set lora.rank=4 --out "$work/adapted"
ok "$seodang" checkpoint inspect "$work/adapted"
says out 'parameters/classify.out.weight'
grep -q 'parameters/wte' "$work/out" && fail "a checkpoint of adapters holds what is frozen"
ok "$seodang" checkpoint merge "$work/adapted" --out "$work/merged"
says err '/merged: a whole model'
ok "$seodang" classify "$work/merged" --text "the king saw a stone"
mv "$work/out" "$work/merged.txt"
ok "$seodang" classify "$work/adapted" --text "the king saw a stone"
cut -f1 "$work/out" | cmp - <(cut -f1 "$work/merged.txt") || fail "the merged one gives another label"
mv "$work/base" "$work/away"
exits 1 "$seodang" classify "$work/adapted" --text x
says err 'holds adapters of the parameters in .*/base/.*, and these are gone'
ok "$seodang" classify "$work/merged" --text x
