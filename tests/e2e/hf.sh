#!/usr/bin/env bash
# Models to and from transformers: what transformers saves is imported and computes the same; what is exported loads there
# and computes the same. Runs where $SEODANG_PYTHON (or python3) has torch and transformers. hf.sh SEODANG ROOT HF_LOGITS
. "$(dirname "$0")/lib.sh"
python=${SEODANG_PYTHON:-python3}
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONDONTWRITEBYTECODE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false CUDA_VISIBLE_DEVICES=
"$python" -c 'import numpy, tokenizers, torch, transformers' 2> "$work/why" || {
    echo "skipped: $python has no torch and transformers: $(tail -n 1 "$work/why")"
    exit 77
}
make_text "$work/text.txt" 1000
"$python" "$root/tests/e2e/hf_check.py" "$seodang" "$3" "$work" "$work/text.txt" || fail "hf_check.py"
