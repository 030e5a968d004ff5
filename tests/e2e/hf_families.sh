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

for kind in ${KINDS:-openai-gpt gpt2 bert bert-mlm roberta distilbert}; do
    golden=$root/tests/golden/hf/$kind.json
    tokenizer=gpt2.json
    [ "$kind" = roberta ] && tokenizer=roberta.json
    hf make "$golden" "$kind" "$tokenizer" || fail "$kind: make"
    ok "$seodang" import --hf "$kind" --out "$kind-run"
    # shellcheck disable=SC2046
    "$3" "$kind-run" $(hf ids "$golden") > "$kind.logits" || fail "$kind: hf_logits"
    hf logits "$golden" "$kind.logits" || fail "$kind: other logits than transformers'"
    ok "$seodang" export --hf "$kind-again" "$kind-run"
    hf same "$kind" "$kind-again" || fail "$kind: not the same after import and export"
done
