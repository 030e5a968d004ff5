#!/usr/bin/env python3
"""Makes the golden numbers in tests/golden/: a tiny GPT-2 as transformers' GPT2LMHeadModel computes it, in float64.

Written as plain HDF5 (float32, little endian) so that the tests read them with the library the project already has:
  /ids (steps, sequences, positions + 1) i32   inputs are columns [0, positions), targets [1, positions]
  /logits (sequences, positions, vocabulary)   of the first batch
  /initial/NAME /gradient/NAME /final/NAME     parameters before, their gradient on the first batch (not clipped), after
  /losses (steps) /grad_norms (steps)          of `steps` AdamW steps, one batch each; the norm before clipping
Linear weights are stored (out, in), as Seodang keeps them; GPT-2's Conv1D keeps (in, out).

Needs torch, transformers, numpy and h5py; building and testing Seodang needs none of them.
usage: make_golden.py [tests/golden/gpt2_tiny.h5]
"""
import platform
import sys

import h5py
import numpy as np
import torch
import transformers

VOCAB, POSITIONS, WIDTH, LAYERS, HEADS = 61, 24, 32, 2, 4
SEQUENCES, STEPS = 3, 20
LR, BETA1, BETA2, EPS, DECAY, CLIP = 1e-3, 0.9, 0.95, 1e-8, 0.1, 1.0


def names():
    """(Seodang's name, transformers' name, is a Conv1D weight to transpose)."""
    yield "wte", "transformer.wte.weight", False
    yield "wpe", "transformer.wpe.weight", False
    for i in range(LAYERS):
        theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
        for mine, part in (("norm1", "ln_1"), ("norm2", "ln_2")):
            for kind in ("weight", "bias"):
                yield f"{ours}.{mine}.{kind}", f"{theirs}.{part}.{kind}", False
        for mine, part in (("attn.qkv", "attn.c_attn"), ("attn.proj", "attn.c_proj"),
                           ("mlp.fc", "mlp.c_fc"), ("mlp.proj", "mlp.c_proj")):
            yield f"{ours}.{mine}.weight", f"{theirs}.{part}.weight", True
            yield f"{ours}.{mine}.bias", f"{theirs}.{part}.bias", False
    for kind in ("weight", "bias"):
        yield f"norm_final.{kind}", f"transformer.ln_f.{kind}", False


def build():
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).double().train()
    generator = torch.Generator().manual_seed(20260)
    with torch.no_grad():  # livelier than GPT-2's 0.02, so that every path carries signal; rounded to float32
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.15
            p.copy_((noise + (1.0 if "ln_" in name and name.endswith("weight") else 0.0)).float().double())
    return model


def loss_of(model, rows):
    logits = model(rows[:, :-1]).logits
    return logits, torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), rows[:, 1:].reshape(-1))


def store(group, model, values):
    parameters = dict(model.named_parameters())
    for ours, theirs, transpose in names():
        value = values(parameters[theirs]).detach().numpy()
        group[ours] = np.ascontiguousarray(value.T if transpose else value).astype("<f4")


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "tests/golden/gpt2_tiny.h5"
    torch.use_deterministic_algorithms(True)
    model = build()
    ids = torch.randint(0, VOCAB, (STEPS, SEQUENCES, POSITIONS + 1), generator=torch.Generator().manual_seed(1))
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}],
                                  lr=LR, betas=(BETA1, BETA2), eps=EPS)
    with h5py.File(path, "w", libver=("earliest", "v108"), track_order=False) as file:
        file.attrs["source"] = "transformers GPT2LMHeadModel in float64, made by scripts/make_golden.py"
        file.attrs["versions"] = (f"torch {torch.__version__}, transformers {transformers.__version__}, "
                                  f"numpy {np.__version__}, Python {platform.python_version()}")
        for key, value in dict(vocab_size=VOCAB, seq_len=POSITIONS, hidden_size=WIDTH, num_layers=LAYERS,
                               num_heads=HEADS).items():
            file.attrs[key] = value
        for key, value in dict(lr=LR, beta1=BETA1, beta2=BETA2, eps=EPS, weight_decay=DECAY, clip=CLIP).items():
            file.attrs[key] = np.float64(value)
        file["ids"] = ids.numpy().astype("<i4")
        store(file.create_group("initial"), model, lambda p: p)
        losses, norms = [], []
        for step in range(STEPS):
            optimizer.zero_grad()
            logits, loss = loss_of(model, ids[step])
            loss.backward()
            if step == 0:
                file["logits"] = logits.detach().numpy().astype("<f4")
                store(file.create_group("gradient"), model, lambda p: p.grad)
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
            losses.append(float(loss))
            optimizer.step()
        store(file.create_group("final"), model, lambda p: p)
        file["losses"] = np.array(losses, dtype="<f8")
        file["grad_norms"] = np.array(norms, dtype="<f8")
    print(f"{path}: losses {losses[0]:.6f} .. {losses[-1]:.6f}, norms {norms[0]:.4f} .. {norms[-1]:.4f}")


if __name__ == "__main__":
    main()
