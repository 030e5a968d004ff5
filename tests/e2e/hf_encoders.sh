#!/usr/bin/env bash
# Encoders that Seodang trained go out as Hugging Face folders and come back the same; an imported one is fine-tuned, and its
# classes go out with their names.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
make_text book.txt 1200
ok "$seodang" tokenizer train --special roberta --vocab-size 280 --out roberta.json book.txt
ok "$seodang" tokenizer train --type wordpiece --vocab-size 120 --out bert.json book.txt
cat > run.yaml <<'CONFIG'
model: {family: bert, num_layers: 2, num_heads: 2, hidden_size: 32, seq_len: 32, vocab_size: 280, dropout: 0.1}
data: {path: bert-data}
train: {steps: 4, batch_tokens: 256, micro_batch: 4, seed: 3}
optimizer: {lr: 3e-3, weight_decay: 0.1}
schedule: {name: constant}
CONFIG
for family in bert roberta distilbert; do
    tokenizer=bert
    [ $family = roberta ] && tokenizer=roberta
    [ -d $tokenizer-data ] || ok "$seodang" data build --tokenizer $tokenizer.json --out $tokenizer-data --held-out 0.1 \
        --held-out-mode tail book.txt
    ok "$seodang" train run.yaml --set model.family=$family --set data.path=$tokenizer-data --out $family
    ok "$seodang" export --hf $family-hf $family
    ok "$seodang" import --hf $family-hf --out $family-back
    ok "$seodang" export --hf $family-again $family-back
    cmp $family-hf/model.safetensors $family-again/model.safetensors || fail "$family: the tensors changed on the way"
    cmp $family-hf/config.json $family-again/config.json || fail "$family: config.json changed on the way"
    cmp $family-hf/tokenizer.json $family-again/tokenizer.json || fail "$family: the tokenizer changed on the way"
    for run in $family $family-back; do
        ok "$seodang" eval $run --data $tokenizer-data --json
        python3 -c 'import json, sys; print(json.load(sys.stdin)["loss"])' < out > $run.loss || fail "eval --json of $run"
    done
    cmp $family.loss $family-back.loss || fail "$family: another loss after export and import"
done

# Classes on top of an imported encoder: the head's names go along, and come back.
for i in 1 2 3 4 5 6 7 8; do
    printf '{"text": "the king saw %s", "label": "seen"}\n{"text": "a river read %s", "label": "was read"}\n' "$i" "$i"
done > examples.jsonl
for family in bert roberta; do
    ok "$seodang" train run.yaml --set model.family=$family --set checkpoint.init_from=$family-back --set data.path=null \
        --set task.kind=classify --set task.examples=examples.jsonl --set "task.labels=seen, was read" --out $family-classes
    ok "$seodang" export --hf $family-classes-hf $family-classes
    says out 'ForSequenceClassification'
    grep -q '"id2label": {"0": "seen", "1": "was read"}' $family-classes-hf/config.json || fail "$family: no names of the classes"
    ok "$seodang" import --hf $family-classes-hf --out $family-classes-back
    for run in $family-classes $family-classes-back; do
        ok "$seodang" classify $run --json --text "the king read"
        cp out $run.classes
    done
    cmp $family-classes.classes $family-classes-back.classes || fail "$family: other classes after export and import"
done
ok "$seodang" train run.yaml --set model.family=distilbert --set checkpoint.init_from=distilbert-back --set data.path=null \
    --set task.kind=classify --set task.examples=examples.jsonl --set "task.labels=seen, was read" --out distilbert-classes
exits 1 "$seodang" export --hf no distilbert-classes
says err 'ReLU'
[ ! -e no ] && [ ! -e no.incomplete ] || fail "a refused export left something"
