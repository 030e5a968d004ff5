#!/usr/bin/env bash
# A trained GPT-2 goes out as a Hugging Face folder and comes back the same; folders that are damaged, half-written or of
# something else are refused by name, and leave nothing behind.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
make_data 2000
make_config run.yaml
ok "$seodang" train run.yaml --out run

# Out and back: the same files again, the same loss.
ok "$seodang" export --hf hf run
says out 'GPT2LMHeadModel of 34,720 parameters in 1 file, float32'
says out 'the same outputs at 32 positions, bit for bit'
ok "$seodang" import --hf hf --out back
says out 'back: GPT2LMHeadModel of 34,720 parameters'
[ ! -e back.incomplete ] && [ ! -e hf.incomplete ] || fail "a temporary folder was left"
ok "$seodang" checkpoint verify back
ok "$seodang" export --hf again back
cmp hf/model.safetensors again/model.safetensors || fail "the tensors changed on the way"
cmp hf/config.json again/config.json || fail "config.json changed on the way"
cmp hf/tokenizer.json again/tokenizer.json || fail "the tokenizer changed on the way"
for run in run back; do
    ok "$seodang" eval "$run" --data data --json
    python3 -c 'import json, sys; print(json.load(sys.stdin)["loss"])' < out > "$run.loss" || fail "eval --json of $run"
done
cmp run.loss back.loss || fail "an imported model has another loss"
ok "$seodang" generate back --prompt "the king" --max-tokens 4

# Shards: the same model.
ok "$seodang" export --hf shards --shard-size 20kB run
says out 'in 8 files'
ok "$seodang" import --hf shards --out from-shards
ok "$seodang" export --hf once-more from-shards
cmp hf/model.safetensors once-more/model.safetensors || fail "sharded tensors changed on the way"
ok "$seodang" export --hf half --dtype bf16 run
says out 'bfloat16'

# What an attempt that was killed left is no part of the next one.
mkdir after-kill.incomplete && echo junk > after-kill.incomplete/junk.safetensors
ok "$seodang" export --hf after-kill run
diff -r hf after-kill || fail "an export after a killed one differs"
[ ! -e after-kill.incomplete ] || fail "the killed export's folder is still there"

# A run begins from an imported model; adapters alone are no model, merged they are.
ok "$seodang" train run.yaml --set checkpoint.init_from=back --set train.steps=2 --set schedule.warmup_steps=0 --out tuned
ok "$seodang" export --hf tuned-hf tuned
ok "$seodang" train run.yaml --set checkpoint.init_from=back --set lora.rank=2 --set train.steps=2 --set schedule.warmup_steps=0 \
    --out adapted
exits 2 "$seodang" export --hf adapted-hf adapted
says err 'adapters' && says err 'checkpoint merge'
ok "$seodang" checkpoint merge adapted --out merged
ok "$seodang" export --hf merged-hf merged

# Layers that transformers has no class for; without their bands they are GPT-2's.
ok "$seodang" train run.yaml --set model.family=gpt3 --set model.band=8 --set train.steps=1 --set schedule.warmup_steps=0 --out banded
exits 1 "$seodang" export --hf banded-hf banded
says err 'model.band'
ok "$seodang" train run.yaml --set model.family=gpt3 --set model.band=0 --set train.steps=1 --set schedule.warmup_steps=0 --out dense
ok "$seodang" export --hf dense-hf dense
says out 'GPT2LMHeadModel'

# A decoder's classes are no class of transformers.
for i in 1 2 3 4 5 6 7 8; do
    printf '{"text": "the king saw %s", "label": "a"}\n{"text": "a river read %s", "label": "b"}\n' "$i" "$i"
done > examples.jsonl
ok "$seodang" train run.yaml --set checkpoint.init_from=run --set task.kind=classify --set task.examples=examples.jsonl \
    --set task.labels=a,b --set train.steps=1 --set schedule.warmup_steps=0 --set eval.every=0 --out classes
exits 1 "$seodang" export --hf classes-hf classes
says err 'classes/checkpoints/step-00000001 cannot be exported: .* classification head'

# What cannot be: wrong usage, places that are taken.
exits 2 "$seodang" export --hf hf run
says err 'hf is there already'
exits 2 "$seodang" import --hf hf --out back/
says err 'back is there already'
exits 2 "$seodang" export --hf x --dtype f16 run
says err 'f32 and bf16'
exits 2 "$seodang" export --hf x --shard-size 5 --shard-size much run
says err 'shard-size much'
exits 2 "$seodang" export run
says err 'hf'
exits 1 "$seodang" export --hf x nowhere
exits 1 "$seodang" import --hf nowhere --out x
says err 'nowhere/config.json is not there'

# change FOLDER PYTHON: a copy of hf/ in $work/bad after the statements; c is its config, t its tensors (name -> [dtype, shape,
# bytes]).
change() {
    rm -rf bad
    cp -r "$1" bad
    python3 - "$2" <<'PYTHON' || fail "change: $2"
import json, struct, sys
c = json.load(open("bad/config.json"))
t = {}
try:
    raw = open("bad/model.safetensors", "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    for name, e in json.loads(raw[8:8 + size]).items():
        if name != "__metadata__":
            t[name] = [e["dtype"], e["shape"], raw[8 + size:][slice(*e["data_offsets"])]]
except FileNotFoundError:
    pass
exec(sys.argv[1])
json.dump(c, open("bad/config.json", "w"))
if t:
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, value) in t.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(value)]}
        data += value
    text = json.dumps(header).encode()
    open("bad/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
PYTHON
}

# refused WORD...: bad/ cannot be imported, the message has the words, and nothing is left.
refused() {
    "$seodang" import --hf bad --out no > out 2> err && fail "imported: $*"
    for word in "$@"; do says err "$word"; done
    [ ! -e no ] && [ ! -e no.incomplete ] || fail "a refused import left something: $*"
}

change hf 'pass'; ok "$seodang" import --hf bad --out same
change hf 'pass'; rm bad/config.json; refused 'bad/config.json is not there'
change hf 'pass'; rm bad/model.safetensors; refused 'neither model.safetensors nor'
change hf 'pass'; rm bad/tokenizer.json; refused 'bad has no tokenizer.json'
change hf 'pass'; truncate -s -1 bad/model.safetensors; refused 'bad/model.safetensors' 'do not lie.*not copied whole'
change hf 'pass'; truncate -s 100 bad/model.safetensors; refused 'bad/model.safetensors' 'was cut'
change shards 'pass'; rm bad/model-00003-of-00008.safetensors; refused 'model-00003-of-00008.safetensors, which is not there'
change shards 'pass'; rm bad/model.safetensors.index.json; refused 'neither model.safetensors nor'
change hf 'del t["transformer.h.1.ln_2.bias"]'; refused 'transformer.h.1.ln_2.bias' 'GPT2LMHeadModel'
change hf 't["transformer.h.1.ln_2.bias"][1] = [8, 4]'; refused 'ln_2.bias" is \(8, 4\)' 'would be \(32\)'
change hf 't["transformer.h.2.ln_1.bias"] = ["F32", [1], bytes(4)]'; refused 'transformer.h.2.ln_1.bias' 'nothing'
change hf 't["transformer.wpe.weight"] = ["F64", [32, 32], bytes(8192)]'; refused 'wpe.weight' 'F64'
change hf 't["lm_head.weight"] = ["F32", [257, 32], bytes(257 * 32 * 4)]'; refused 'lm_head.weight' 'not tied'
change hf 'c["n_layer"] = 1'; refused 'transformer.h.1'
change hf 'c["n_embd"] = 64'; refused 'by config.json it would be'
change hf 'c["n_head"] = 3'; refused 'num_heads'
change hf 'del c["n_head"]'; refused 'config.json' 'n_head'
change hf 'c["n_layer"] = 10**9'; refused 'n_layer' '1024'
change hf 'c["n_layer"] = "2"'; refused 'n_layer'
change hf 'c["model_type"] = "llama"'; refused 'llama' 'distilbert'
change hf 'c["activation_function"] = "relu"'; refused 'relu' 'gelu_new'
change hf 'c["scale_attn_by_inverse_layer_idx"] = True'; refused 'scale_attn_by_inverse_layer_idx'
change hf 'c["tie_word_embeddings"] = False'; refused 'tie_word_embeddings'
change hf 'c["embd_pdrop"] = 0.5'; refused 'embd_pdrop'
change hf 'c["vocab_size"] = 256; t["transformer.wte.weight"][1:] = [[256, 32], t["transformer.wte.weight"][2][:-128]]'
refused 'tokenizer has 257 ids'

# What other versions write: copies of tied tensors, buffers, names without their root, the older files of the vocabulary,
# links into a cache.
change hf 't["lm_head.weight"] = t["transformer.wte.weight"]; t["transformer.h.0.attn.bias"] = ["BOOL", [1, 1, 2, 2], bytes(4)]'
ok "$seodang" import --hf bad --out tied
change hf 't = {k.removeprefix("transformer."): v for k, v in t.items()}'
ok "$seodang" import --hf bad --out bare
change hf 'j = json.load(open("bad/tokenizer.json"))["model"]; json.dump(j["vocab"], open("bad/vocab.json", "w"))
open("bad/merges.txt", "w").write("#version: 0.2\n" + "".join(m + "\n" for m in j["merges"]))'
rm bad/tokenizer.json
ok "$seodang" import --hf bad --out older
rm -rf bad && mkdir bad && ln -s ../hf/config.json ../hf/model.safetensors ../hf/tokenizer.json bad
ok "$seodang" import --hf bad --out linked
for run in tied bare older linked; do
    ok "$seodang" export --hf "$run-hf" "$run"
    cmp hf/model.safetensors "$run-hf/model.safetensors" || fail "$run: other tensors"
    cmp hf/tokenizer.json "$run-hf/tokenizer.json" || fail "$run: another tokenizer"
done
