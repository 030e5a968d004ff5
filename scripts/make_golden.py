#!/usr/bin/env python3
"""Makes the golden numbers in tests/golden/ with transformers' own classes in float64, as plain HDF5 (little endian) that
the tests read with the library the project already has. Linear weights are stored (out, in), as Seodang keeps them.

Decoders (gpt2_tiny.h5: GPT2LMHeadModel, 20 steps; gpt1_tiny.h5: OpenAIGPTLMHeadModel, 1 step and no /final):
  /ids (steps, sequences, positions + 1) i32   inputs are columns [0, positions), targets [1, positions]
  /logits (sequences, positions, vocabulary)   of the first batch
  /initial/NAME /gradient/NAME /final/NAME     parameters before, their gradient on the first batch (not clipped), after
  /losses (steps) /grad_norms (steps)          of `steps` AdamW steps, one batch each; the norm before clipping

Encoders (bert_tiny.h5: BertForPreTraining, roberta_tiny.h5: RobertaForMaskedLM, distilbert_tiny.h5: DistilBertForMaskedLM):
  /ids (sequences, positions) i32              padding behind the real tokens of some sequences
  /types (sequences, positions) i32            token types; 0 where the family has none
  /spans (sequences, positions, 2) i32         begin and end of the part a position sees: real tokens, then padding
  /picks (picks) i32                           sequence * positions + position of each masked token, ascending
  /pick_targets (picks) i32                    the token that stood there
  /labels (sequences) i32                      bert: 0 where the second sentence follows the first, 1 where it does not
  /logits (picks, vocabulary)                  the masked-token head at the picks
  /next_logits (sequences, 2)                  bert: the next-sentence head
  /hidden (sequences, positions, width)        the last block's output; 0 at padding
  /initial/NAME /gradient/NAME                 parameters, and the gradient of loss = loss_masked + loss_next
Their attributes: family, sizes, activation, norm_eps, pad_id, loss_masked (mean over picks), loss_next (mean over sequences).

Needs torch, transformers, numpy and h5py; building and testing Seodang needs none of them.
usage: make_golden.py [FOLDER [NAME...]]     names: gpt2 gpt1 bert roberta distilbert; all without one
"""
import os
import platform
import sys

import h5py
import numpy as np
import torch
import transformers

VOCAB, POSITIONS, WIDTH, LAYERS, HEADS = 61, 24, 32, 2, 4
SEQUENCES, STEPS = 3, 20
LR, BETA1, BETA2, EPS, DECAY, CLIP = 1e-3, 0.9, 0.95, 1e-8, 0.1, 1.0
KINDS = ("weight", "bias")


def names(root="transformer", wte="wte", wpe="wpe"):
    """Of a decoder: (Seodang's name, transformers' name, is a Conv1D weight to transpose)."""
    yield "wte", f"{root}.{wte}.weight", False
    yield "wpe", f"{root}.{wpe}.weight", False
    for i in range(LAYERS):
        theirs, ours = f"{root}.h.{i}", f"blocks.{i}"
        for mine, part in (("norm1", "ln_1"), ("norm2", "ln_2")):
            for kind in KINDS:
                yield f"{ours}.{mine}.{kind}", f"{theirs}.{part}.{kind}", False
        for mine, part in (("attn.qkv", "attn.c_attn"), ("attn.proj", "attn.c_proj"),
                           ("mlp.fc", "mlp.c_fc"), ("mlp.proj", "mlp.c_proj")):
            yield f"{ours}.{mine}.weight", f"{theirs}.{part}.weight", True
            yield f"{ours}.{mine}.bias", f"{theirs}.{part}.bias", False


def gpt2_names():
    yield from names()
    for kind in KINDS:
        yield f"norm_final.{kind}", f"transformer.ln_f.{kind}", False


def gpt1_names():
    return names(wte="tokens_embed", wpe="positions_embed")


def enliven(model, seed):
    """Parameters livelier than the usual 0.02, biases and norms too, so that every path carries signal and nothing hides
    behind a zero or a one; rounded to float32."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.15
            norm = name.endswith("weight") and ("ln_" in name or "norm" in name.lower())
            p.copy_((noise + (1.0 if norm else 0.0)).float().double())
    return model


def gpt2_model():
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        attn_implementation="eager")
    return enliven(transformers.GPT2LMHeadModel(config).double().train(), 20260)


def gpt1_model():
    config = transformers.OpenAIGPTConfig(
        vocab_size=VOCAB, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, afn="gelu",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager")
    return enliven(transformers.OpenAIGPTLMHeadModel(config).double().train(), 20261)


def loss_of(model, rows):
    logits = model(rows[:, :-1]).logits
    return logits, torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), rows[:, 1:].reshape(-1))


def store(group, model, table, values):
    """`table` yields (our name, their name or names to stack by rows, transpose)."""
    parameters = dict(model.named_parameters())
    left = set(parameters)
    for ours, theirs, transpose in table:
        theirs = (theirs,) if isinstance(theirs, str) else theirs
        left -= set(theirs)
        value = np.concatenate([values(parameters[name]).detach().numpy() for name in theirs])
        group[ours] = np.ascontiguousarray(value.T if transpose else value).astype("<f4")
    assert not left, f"not stored: {left}"


def describe(file, model, **attributes):
    file.attrs["source"] = f"transformers {type(model).__name__} in float64, made by scripts/make_golden.py"
    file.attrs["versions"] = (f"torch {torch.__version__}, transformers {transformers.__version__}, "
                              f"numpy {np.__version__}, Python {platform.python_version()}")
    for key, value in attributes.items():
        file.attrs[key] = value


def make_decoder(path, model, table, steps, sizes):
    ids = torch.randint(0, VOCAB, (steps, SEQUENCES, POSITIONS + 1), generator=torch.Generator().manual_seed(1))
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}],
                                  lr=LR, betas=(BETA1, BETA2), eps=EPS)
    with h5py.File(path, "w", libver=("earliest", "v108"), track_order=False) as file:
        describe(file, model, **sizes)
        for key, value in dict(lr=LR, beta1=BETA1, beta2=BETA2, eps=EPS, weight_decay=DECAY, clip=CLIP).items():
            file.attrs[key] = np.float64(value)
        file["ids"] = ids.numpy().astype("<i4")
        store(file.create_group("initial"), model, table(), lambda p: p)
        losses, norms = [], []
        for step in range(steps):
            optimizer.zero_grad()
            logits, loss = loss_of(model, ids[step])
            loss.backward()
            if step == 0:
                file["logits"] = logits.detach().numpy().astype("<f4")
                store(file.create_group("gradient"), model, table(), lambda p: p.grad)
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
            losses.append(float(loss.detach()))
            optimizer.step()
        if steps > 1:
            store(file.create_group("final"), model, table(), lambda p: p)
        file["losses"] = np.array(losses, dtype="<f8")
        file["grad_norms"] = np.array(norms, dtype="<f8")
    print(f"{path}: losses {losses[0]:.6f} .. {losses[-1]:.6f}, norms {norms[0]:.4f} .. {norms[-1]:.4f}")


def make_gpt2(path):
    make_decoder(path, gpt2_model(), gpt2_names, STEPS, dict(
        vocab_size=VOCAB, seq_len=POSITIONS, hidden_size=WIDTH, num_layers=LAYERS, num_heads=HEADS))


def make_gpt1(path):
    make_decoder(path, gpt1_model(), gpt1_names, 1, dict(
        family="gpt1", vocab_size=VOCAB, seq_len=POSITIONS, hidden_size=WIDTH, ffn_hidden_size=4 * WIDTH, num_layers=LAYERS,
        num_heads=HEADS, activation="gelu_tanh", norm_eps=1e-5))


# ---- encoders ----

E_VOCAB, E_POSITIONS, E_WIDTH, E_FFN, E_LAYERS, E_HEADS = 67, 17, 24, 80, 3, 4
E_REAL, E_PICKS = (17, 12, 9), 4  # real tokens and masked ones of each sequence


def block_names(theirs, parts):
    """The rows of one encoder block; parts: transformers' names of q, k, v, proj, norm1, fc, mlp.proj, norm2."""
    q, k, v, proj, norm1, fc, out, norm2 = parts
    for kind in KINDS:
        yield f"attn.qkv.{kind}", tuple(f"{theirs}.{part}.{kind}" for part in (q, k, v)), False
        for mine, part in (("attn.proj", proj), ("norm1", norm1), ("mlp.fc", fc), ("mlp.proj", out), ("norm2", norm2)):
            yield f"{mine}.{kind}", f"{theirs}.{part}.{kind}", False


BERT_PARTS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
              "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
DISTIL_PARTS = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
                "ffn.lin1", "ffn.lin2", "output_layer_norm")


def encoder_names(root, layers, parts, head, types):
    embeddings = f"{root}.embeddings"
    yield "wte", f"{embeddings}.word_embeddings.weight", False
    yield "wpe", f"{embeddings}.position_embeddings.weight", False
    if types:
        yield "wtt", f"{embeddings}.token_type_embeddings.weight", False
    for kind in KINDS:
        yield f"norm_embed.{kind}", f"{embeddings}.LayerNorm.{kind}", False
        yield f"head.dense.{kind}", f"{head[0]}.{kind}", False
        yield f"head.norm.{kind}", f"{head[1]}.{kind}", False
    yield "head.bias", head[2], False
    for i in range(E_LAYERS):
        for ours, theirs, transpose in block_names(f"{root}.{layers}.{i}", parts):
            yield f"blocks.{i}.{ours}", theirs, transpose


def bert_names():
    head = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias")
    yield from encoder_names("bert", "encoder.layer", BERT_PARTS, head, True)
    for kind in KINDS:
        yield f"pooler.{kind}", f"bert.pooler.dense.{kind}", False
        yield f"next.{kind}", f"cls.seq_relationship.{kind}", False


def roberta_names():
    head = ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias")
    return encoder_names("roberta", "encoder.layer", BERT_PARTS, head, True)


def distilbert_names():
    head = ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias")
    return encoder_names("distilbert", "transformer.layer", DISTIL_PARTS, head, False)


def bert_config(kind, **more):
    return kind(vocab_size=E_VOCAB, hidden_size=E_WIDTH, intermediate_size=E_FFN, num_hidden_layers=E_LAYERS,
                num_attention_heads=E_HEADS, hidden_act="gelu", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                attn_implementation="eager", **more)


def encoder_batch(pad, types):
    """Real tokens and padding; picks ascending in each sequence, never in the padding."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.full((len(E_REAL), E_POSITIONS), pad)
    kinds, spans = torch.zeros_like(ids), np.zeros((len(E_REAL), E_POSITIONS, 2), dtype="<i4")
    picks = []
    for row, real in enumerate(E_REAL):
        # The padding's row of the embedding gets no gradient as an input there: it stands for nothing else.
        ids[row, :real] = torch.randint(pad + 1, E_VOCAB, (real,), generator=generator)
        kinds[row, real // 2:real] = 1 if types else 0
        spans[row, :real], spans[row, real:] = (0, real), (real, E_POSITIONS)
        chosen = torch.randperm(real, generator=generator)[:E_PICKS].sort().values
        picks += [row * E_POSITIONS + int(t) for t in chosen]
    targets = torch.randint(0, E_VOCAB, (len(picks),), generator=generator)
    return ids, kinds, spans, torch.tensor(picks), targets


def make_encoder(path, family, model, table, pad, types, eps):
    enliven(model.double().train(), 20262)
    ids, kinds, spans, picks, targets = encoder_batch(pad, types > 1)
    real = torch.tensor(spans[:, :, 0] == 0).long()
    labels = torch.tensor([0, 1, 1])
    marked = torch.full((ids.numel(),), -100)
    marked[picks] = targets
    inputs = dict(input_ids=ids, attention_mask=real, labels=marked.view(ids.shape), output_hidden_states=True)
    if types > 1:
        inputs["token_type_ids"] = kinds
    if family == "bert":
        inputs["next_sentence_label"] = labels
    out = model(**inputs)
    logits = (out.prediction_logits if family == "bert" else out.logits).reshape(-1, E_VOCAB)[picks]
    masked = torch.nn.functional.cross_entropy(logits, targets)
    following = torch.zeros(())
    if family == "bert":
        following = torch.nn.functional.cross_entropy(out.seq_relationship_logits, labels)
    assert abs(float(masked + following - out.loss)) < 1e-12
    out.loss.backward()
    with h5py.File(path, "w", libver=("earliest", "v108"), track_order=False) as file:
        describe(file, model, family=family, vocab_size=E_VOCAB, seq_len=E_POSITIONS, hidden_size=E_WIDTH,
                 ffn_hidden_size=E_FFN, num_layers=E_LAYERS, num_heads=E_HEADS, type_vocab_size=types,
                 next_sentence=int(family == "bert"), activation="gelu_erf", norm_eps=eps, pad_id=pad,
                 sequences=len(E_REAL), pick_count=len(picks), loss_masked=float(masked.detach()),
                 loss_next=float(following.detach()))
        for key, value in dict(ids=ids, types=kinds, spans=spans, picks=picks, pick_targets=targets, labels=labels).items():
            file[key] = np.asarray(value).astype("<i4")
        file["logits"] = logits.detach().numpy().astype("<f4")
        if family == "bert":
            file["next_logits"] = out.seq_relationship_logits.detach().numpy().astype("<f4")
        file["hidden"] = (out.hidden_states[-1] * real[:, :, None]).detach().numpy().astype("<f4")
        store(file.create_group("initial"), model, table(), lambda p: p)
        store(file.create_group("gradient"), model, table(), lambda p: p.grad)
    print(f"{path}: masked {float(masked.detach()):.6f}, next {float(following.detach()):.6f}")


def make_bert(path):
    config = bert_config(transformers.BertConfig, max_position_embeddings=E_POSITIONS, type_vocab_size=2,
                         layer_norm_eps=1e-12, pad_token_id=0)
    make_encoder(path, "bert", transformers.BertForPreTraining(config), bert_names, 0, 2, 1e-12)


def make_roberta(path):
    config = bert_config(transformers.RobertaConfig, max_position_embeddings=E_POSITIONS + 2, type_vocab_size=1,
                         layer_norm_eps=1e-5, pad_token_id=1)
    make_encoder(path, "roberta", transformers.RobertaForMaskedLM(config), roberta_names, 1, 1, 1e-5)


def make_distilbert(path):
    config = transformers.DistilBertConfig(
        vocab_size=E_VOCAB, max_position_embeddings=E_POSITIONS, dim=E_WIDTH, hidden_dim=E_FFN, n_layers=E_LAYERS,
        n_heads=E_HEADS, activation="gelu", dropout=0.0, attention_dropout=0.0, sinusoidal_pos_embds=False, pad_token_id=0,
        attn_implementation="eager")
    make_encoder(path, "distilbert", transformers.DistilBertForMaskedLM(config), distilbert_names, 0, 0, 1e-12)


MAKERS = dict(gpt2=make_gpt2, gpt1=make_gpt1, bert=make_bert, roberta=make_roberta, distilbert=make_distilbert)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "tests/golden"
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[2:] or MAKERS:
        MAKERS[name](os.path.join(folder, f"{name}_tiny.h5"))


if __name__ == "__main__":
    main()
