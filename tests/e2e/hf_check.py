#!/usr/bin/env python3
"""Seodang's import and export against transformers' own classes, for tests/e2e/hf.sh.

For each kind of model transformers makes a tiny one with a tokenizer and saves it; Seodang imports it, and its logits must
be those of transformers; Seodang exports that, transformers loads it again, and the logits must be those of the first, the
tokenizer's ids as well. Prints a line for each comparison.

Needs torch, transformers and tokenizers. usage: hf_check.py SEODANG HF_LOGITS FOLDER TEXT [KIND...]
With --golden FOLDER instead it writes FOLDER/KIND.json, for machines without transformers (tests/e2e/hf_families.sh): the
config.json and the tensors' shapes as transformers saves them, and logits of a model filled by tests/e2e/hf_formula.py.
"""
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import safetensors
import tokenizers
import torch
import transformers

from hf_formula import values

LIMIT = 1e-4
WIDTH, FFN, LAYERS, HEADS, POSITIONS, TOKENS = 32, 96, 3, 4, 40, 23
ENCODER = dict(hidden_size=WIDTH, intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=HEADS)


def gpt2_tokenizer(text, folder):
    tok = tokenizers.ByteLevelBPETokenizer(add_prefix_space=False)
    tok.train([text], vocab_size=300, special_tokens=["<|endoftext|>"])
    tok.save_model(folder)
    return transformers.GPT2Tokenizer.from_pretrained(folder)


def roberta_tokenizer(text, folder):
    tok = tokenizers.ByteLevelBPETokenizer(add_prefix_space=False)
    tok.train([text], vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tok.save_model(folder)
    return transformers.RobertaTokenizer.from_pretrained(folder)


def bert_tokenizer(text, folder):
    tok = tokenizers.BertWordPieceTokenizer()
    tok.train([text], vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tok.save_model(folder)
    return transformers.BertTokenizer.from_pretrained(folder)


def gpt_sizes(vocabulary):
    return dict(vocab_size=vocabulary, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)


KINDS = {
    "openai-gpt": (gpt2_tokenizer, lambda v: transformers.OpenAIGPTLMHeadModel(
        transformers.OpenAIGPTConfig(**gpt_sizes(v)))),
    "gpt2": (gpt2_tokenizer, lambda v: transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt_sizes(v), n_inner=FFN))),
    "bert": (bert_tokenizer, lambda v: transformers.BertForPreTraining(
        transformers.BertConfig(vocab_size=v, max_position_embeddings=POSITIONS, **ENCODER))),
    "bert-mlm": (bert_tokenizer, lambda v: transformers.BertForMaskedLM(
        transformers.BertConfig(vocab_size=v, max_position_embeddings=POSITIONS, hidden_act="gelu_new", **ENCODER))),
    "roberta": (roberta_tokenizer, lambda v: transformers.RobertaForMaskedLM(transformers.RobertaConfig(
        vocab_size=v, max_position_embeddings=POSITIONS + 2, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
        **ENCODER))),
    "bert-classes": (bert_tokenizer, lambda v: transformers.BertForSequenceClassification(transformers.BertConfig(
        vocab_size=v, max_position_embeddings=POSITIONS, id2label={0: "austen", 1: "dickens", 2: "kjv"}, **ENCODER))),
    "roberta-classes": (roberta_tokenizer, lambda v: transformers.RobertaForSequenceClassification(
        transformers.RobertaConfig(vocab_size=v, max_position_embeddings=POSITIONS + 2, type_vocab_size=1, layer_norm_eps=1e-5,
                                   pad_token_id=1, **ENCODER))),
    "distilbert": (bert_tokenizer, lambda v: transformers.DistilBertForMaskedLM(transformers.DistilBertConfig(
        vocab_size=v, max_position_embeddings=POSITIONS, dim=WIDTH, hidden_dim=FFN, n_layers=LAYERS, n_heads=HEADS))),
}


def make(kind, text, folder):
    os.makedirs(folder)
    scratch = folder + "-tokenizer"
    os.makedirs(scratch)
    tokenizer = KINDS[kind][0](text, scratch)
    model = KINDS[kind][1](len(tokenizer)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # every bias and norm too: nothing may hide behind a zero or a one
        for name, p in model.named_parameters():
            norm = name.endswith("weight") and ("ln_" in name or "norm" in name.lower())
            p.copy_(torch.randn(p.shape, generator=generator) * 0.15 + (1.0 if norm else 0.0))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def logits_of(model, ids):
    """Of each position all ids', then those of the next-sentence label if the class has one."""
    inputs = dict(input_ids=torch.tensor([ids]))
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.tensor([[int(2 * i >= len(ids)) for i in range(len(ids))]])
    with torch.no_grad():
        out = model(**inputs)
    if hasattr(out, "seq_relationship_logits"):
        return np.concatenate([out.prediction_logits.numpy().ravel(), out.seq_relationship_logits.numpy().ravel()])
    return out.logits.numpy().ravel()


def golden(kind, path):
    model = KINDS[kind][1](300).double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.tensor(values(name, p.numel()), dtype=torch.float64).view(p.shape))
    with tempfile.TemporaryDirectory() as folder:
        model.float().save_pretrained(folder)
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        with safetensors.safe_open(os.path.join(folder, "model.safetensors"), "pt") as file:
            tensors = {name: file.get_slice(name).get_shape() for name in file.keys()}
    ids = [(11 * i + 5) % 300 for i in range(TOKENS)]
    logits = logits_of(model.double(), ids)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(dict(made_with=versions(), config=config, tensors=tensors, ids=ids, count=len(logits), every=31,
                       last=[float(x) for x in logits[-2:]], logits=[float(x) for x in logits[::31]]), file, indent=0)
        file.write("\n")


def versions():
    return (f"torch {torch.__version__}, transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, "
            f"Python {platform.python_version()}")


def run(*command):
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"FAILED: {' '.join(command)}: {done.stderr.decode()}")
    return done.stdout


def compare(kind, what, got, want):
    assert got.shape == want.shape, f"{kind}: {what}: {got.shape}, not {want.shape}"
    off = float(np.abs(got.astype("f8") - want).max())
    print(f"{kind:15} {what:44} {off:.2e} of {float(np.abs(want).max()):.2f}", flush=True)
    if not off <= LIMIT:
        sys.exit(f"FAILED: {kind}: {what}: logits differ by {off}")


def rounded(model):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.bfloat16().float())
    return model


def check_older_files(kind, seodang, first, again):
    """vocab.txt, or vocab.json with merges.txt, are the same tokenizer as the tokenizer.json made of them."""
    older = first + "-older"
    shutil.copytree(first, older)
    os.remove(os.path.join(older, "tokenizer.json"))
    for name in os.listdir(first + "-tokenizer"):
        shutil.copy(os.path.join(first + "-tokenizer", name), older)
    run(seodang, "import", "--hf", older, "--out", older + "-run")
    run(seodang, "export", "--hf", older + "-again", older + "-run")
    with open(os.path.join(again, "tokenizer.json"), "rb") as a, open(older + "-again/tokenizer.json", "rb") as b:
        # Of a RoBERTa's two files we read that <mask> takes the space before it, as roberta-base has it; transformers 5 does not.
        same = a.read() == b.read().replace(b'"lstrip": true', b'"lstrip": false')
    assert same, f"{kind}: the vocabulary's files give another tokenizer than tokenizer.json"


def check_classify(kind, seodang, run_dir, model, tokenizer):
    for texts in (("the king saw the water.",), ("every child read", "this book")):
        with torch.no_grad():
            want = model(**tokenizer(*texts, return_tensors="pt")).logits[0].double().softmax(-1)
        pair = ("--pair", texts[1]) if len(texts) > 1 else ()
        got = json.loads(run(seodang, "classify", run_dir, "--json", "--text", texts[0], *pair))
        for i, p in enumerate(want.tolist()):
            assert abs(got["probabilities"][model.config.id2label[i]] - p) <= 1e-6, f"{kind}: {texts}: {got}, not {want}"
        assert got["label"] == model.config.id2label[int(want.argmax())]
    print(f"{kind:15} {'classify: a text and a pair':44} as many digits as are printed", flush=True)


def check_fill(kind, seodang, run_dir, model, tokenizer):
    """What `seodang fill` puts behind a mask is what the class does with its tokenizer's frame around the text."""
    if tokenizer.mask_token is None:
        return
    if kind.endswith("classes"):
        check_classify(kind, seodang, run_dir, model, tokenizer)
        return
    text = f"the king {tokenizer.mask_token} the water."
    inputs = tokenizer(text, return_tensors="pt")
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    with torch.no_grad():
        out = model(**inputs)
    scores = out.prediction_logits if hasattr(out, "prediction_logits") else out.logits
    likely = scores[0, place].double().softmax(-1).topk(5)
    guesses = json.loads(run(seodang, "fill", run_dir, "--json", "--text", text))["masks"][0]["guesses"]
    assert [guess["id"] for guess in guesses] == likely.indices.tolist(), f"{kind}: fill guesses other tokens"
    off = max(abs(guess["probability"] / p - 1) for guess, p in zip(guesses, likely.values.tolist()))
    print(f"{kind:15} {'fill: five likeliest, probabilities apart by':44} {off:.2e}", flush=True)
    assert off <= LIMIT, f"{kind}: fill has other probabilities"


def check(kind, seodang, hf_logits, work, text):
    first, run_dir, again, small = (os.path.join(work, f"{kind}-{part}") for part in ("hf", "run", "again", "small"))
    model, tokenizer = make(kind, text, first)
    ids = [int(i) for i in torch.randint(5, len(tokenizer), (TOKENS,), generator=torch.Generator().manual_seed(9))]
    want = logits_of(model, ids)
    run(seodang, "import", "--hf", first, "--out", run_dir)
    ours = np.frombuffer(run(hf_logits, run_dir, *map(str, ids)), dtype="<f4")
    compare(kind, "imported, against transformers", ours, want)
    run(seodang, "export", "--hf", again, run_dir)
    loaded = type(model).from_pretrained(again).eval()
    compare(kind, f"exported, loaded as {type(loaded).__name__}", logits_of(loaded, ids), want)
    auto = transformers.AutoTokenizer.from_pretrained(again)
    with open(text, encoding="utf-8") as file:
        lines = file.read().splitlines()[:200] + ["", "naïve Café?  <mask> [MASK]<|endoftext|>", "x" * 300]
    for line in lines:
        assert auto(line)["input_ids"] == tokenizer(line)["input_ids"], f"{kind}: other ids for {line!r}"
    assert auto.mask_token == tokenizer.mask_token and auto.eos_token_id == loaded.config.eos_token_id
    with open(text, encoding="utf-8") as file:
        theirs = tokenizer(file.read(), add_special_tokens=False)["input_ids"]
    ours = run(seodang, "tokenizer", "encode", "--tokenizer", os.path.join(again, "tokenizer.json"), text)
    assert [int(i) for i in ours.split()] == theirs, f"{kind}: Seodang's ids of {text} differ"
    check_fill(kind, seodang, run_dir, model, tokenizer)
    check_older_files(kind, seodang, first, again)
    run(seodang, "export", "--hf", small, "--dtype", "bf16", "--shard-size", "20kB", run_dir)
    loaded = type(model).from_pretrained(small, dtype=torch.float32).eval()
    compare(kind, "exported as bfloat16 in shards", logits_of(loaded, ids), logits_of(rounded(model), ids))


def main():
    if sys.argv[1] == "--golden":
        for kind in KINDS:
            golden(kind, os.path.join(sys.argv[2], f"{kind}.json"))
        return
    seodang, hf_logits, work, text, *kinds = sys.argv[1:]
    print(versions())
    for kind in kinds or KINDS:
        check(kind, seodang, hf_logits, work, text)


if __name__ == "__main__":
    main()
