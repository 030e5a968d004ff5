#!/usr/bin/env bash
# Every class of transformers that Seodang reads, by golden files (tests/golden/hf/, made by hf_check.py --golden): a folder
# with its config.json and tensors is imported, computes the golden logits, and is exported with the same tensors and
# configuration. Runs without transformers. hf_families.sh SEODANG ROOT HF_LOGITS
. "$(dirname "$0")/lib.sh"
export PYTHONDONTWRITEBYTECODE=1
hf() { python3 "$root/tests/e2e/hf_families.py" "$@"; }
cd "$work" || exit 1
make_text book.txt 300
ok "$seodang" tokenizer train --vocab-size 280 --out gpt2.json book.txt
ok "$seodang" tokenizer train --special roberta --vocab-size 280 --out roberta.json book.txt
(printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]'; printf '%s\n' {a..z} , . '##'{a..z}) > bert.txt

for kind in openai-gpt gpt2 bert bert-mlm roberta distilbert bert-classes roberta-classes; do
    golden=$root/tests/golden/hf/$kind.json
    tokenizer=gpt2.json
    mask=
    case $kind in
    roberta*) tokenizer=roberta.json mask='<mask>' ;;
    *bert*) tokenizer=bert.txt mask='[MASK]' ;;
    esac
    hf make "$golden" "$kind" "$tokenizer" || fail "$kind: make"
    ok "$seodang" import --hf "$kind" --out "$kind-run"
    # shellcheck disable=SC2046
    "$3" "$kind-run" $(hf ids "$golden") > "$kind.logits" || fail "$kind: hf_logits"
    hf logits "$golden" "$kind.logits" || fail "$kind: other logits than transformers'"
    ok "$seodang" export --hf "$kind-again" "$kind-run"
    hf same "$kind" "$kind-again" || fail "$kind: not the same after import and export"
    case $kind in
    *classes) ok "$seodang" classify "$kind-run" --text "the king read a book." && continue ;;
    esac
    [ -n "$mask" ] || continue
    ok "$seodang" fill "$kind-run" --text "the ${mask} read a book."
done

# RoBERTa's vocabulary in the two files that older models have is the same tokenizer.
python3 - roberta.json <<'FILES' || fail "vocab.json and merges.txt"
import json, sys
model = json.load(open(sys.argv[1], encoding="utf-8"))["model"]
json.dump(model["vocab"], open("vocab.json", "w", encoding="utf-8"))
with open("merges.txt", "w", encoding="utf-8") as file:
    file.write("#version: 0.2\n" + "".join(merge + "\n" for merge in model["merges"]))
FILES
ok "$seodang" tokenizer convert --gpt2 vocab.json merges.txt --out two-files.json
cmp roberta.json two-files.json || fail "two files give another tokenizer than the one they were made of"

# The names of 2018 mean the same; what has no masked-token head, or another head, is refused by what it lacks.
hf change bert bert-old old || fail "change old"
ok "$seodang" import --hf bert-old --out bert-old-run
ok "$seodang" export --hf bert-old-again bert-old-run
hf same bert bert-old-again || fail "the old names gave another model"
hf change bert bert-bare bare || fail "change bare"
exits 1 "$seodang" import --hf bert-bare --out no
says err 'no tensor "cls.predictions.transform.dense.weight"'
hf change bert bert-tagger tagger || fail "change tagger"
exits 1 "$seodang" import --hf bert-tagger --out no
says err 'which a BertForMaskedLM has \(its config.json calls it BertForTokenClassification'

# A RoBERTa counts positions from its padding's id: another one is another model.
sed 's/"pad_token_id": 1/"pad_token_id": 0/' roberta/config.json > roberta/changed && mv roberta/changed roberta/config.json
exits 1 "$seodang" import --hf roberta --out no
says err 'pad_token_id'
cp gpt2.json roberta-again/tokenizer.json
exits 1 "$seodang" import --hf roberta-again --out no
says err "the padding's id, which must be 1"
[ ! -e no ] && [ ! -e no.incomplete ] || fail "a refused import left something"
