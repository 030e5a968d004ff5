#!/usr/bin/env python3
"""What PyTorch does on the same GPU, for scripts/bench_gpu to put beside ours.

    bench_torch.py [--device cpu] sdpa | layernorm | step ...
    bench_torch.py --serve      reads these words from standard input, one a line, and ends at its end

Prints one JSON object a line; the first names the version, and after each word comes {"kind": "done"}. Random data, the
caches overwritten before each call, CUDA events, median of 21. --device cpu tries out the script.

sdpa       torch.nn.functional.scaled_dot_product_attention from (B, H, T, D), forward and backward, the fastest of its
           backends that takes the shape; ours reads packed projections, so that PyTorch's copies into this order are not counted
layernorm  residual add and torch.nn.functional.layer_norm, compiled, forward and backward
step       GPT-2 124M with torch.compile, autocast to bf16, fused AdamW, clipping; time of 1,024 tokens
"""
import argparse
import json
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as functional
    from torch import nn
except ImportError as missing:
    print(json.dumps({"kind": "failure", "op": "torch", "case": "", "why": f"this python3 has no torch: {missing}"}))
    sys.exit(77)

ROUNDS, WARM_UP = 21, 3
FLUSH_BYTES = 256 << 20
HEAD_START_CYCLES = 2_000_000  # the device waits a millisecond, so that Python has queued the call before it begins
STEP_TOKENS, SEQ_LEN = 524288, 1024


def say(**record):
    print(json.dumps(record), flush=True)


class Timer:
    """Milliseconds of a call on the device; on the CPU, where it only tries out the script, of the clock."""

    def __init__(self, device, rounds):
        self.device, self.rounds = device, rounds
        self.flush = torch.empty(FLUSH_BYTES // 4 if device == "cuda" else 1, device=device)

    def once(self, call):
        self.flush.zero_()
        if self.device != "cuda":
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(HEAD_START_CYCLES)
        first.record()
        call()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last)

    def median(self, call):
        for _ in range(WARM_UP):
            self.once(call)
        return statistics.median(self.once(call) for _ in range(self.rounds))


def backward_call(output, inputs, gradient):
    return lambda: torch.autograd.grad(output, inputs, gradient, retain_graph=True)


def sdpa(timer, shapes):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    named = {"flash": SDPBackend.FLASH_ATTENTION, "cuDNN": getattr(SDPBackend, "CUDNN_ATTENTION", None)}
    if timer.device != "cuda":
        named = {"math": SDPBackend.MATH}
    for batch, heads, length, size, causal in shapes:
        q, k, v, gradient = (
            torch.randn(batch, heads, length, size, device=timer.device, dtype=torch.bfloat16) for _ in range(4)
        )
        for tensor in (q, k, v):
            tensor.requires_grad_()
        best = {}
        for name, backend in named.items():
            if backend is None:
                continue
            try:
                with sdpa_kernel(backend):
                    call = lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
                    forward = timer.median(call)
                    backward = timer.median(backward_call(call(), (q, k, v), gradient))
            except RuntimeError:
                continue  # this backend does not take the shape
            for op, ms in (("attention_fwd", forward), ("attention_bwd", backward)):
                if op not in best or ms < best[op][0]:
                    best[op] = ms, name
        case = f"B={batch} H={heads} T={length} D={size}" + (" causal" if causal else "")
        for op, (ms, name) in best.items():
            say(kind="theirs", op=op, case=case, what=f"SDPA ({name})", ms=ms)


def layernorm(timer, shapes):
    @torch.compile
    def normalised(x, add, weight, bias):
        total = x + add
        return total, functional.layer_norm(total, (total.shape[-1],), weight, bias)

    for rows, width in shapes:
        x, add, gradient, gradient_total = (
            torch.randn(rows, width, device=timer.device, dtype=torch.bfloat16) for _ in range(4)
        )
        weight, bias = (torch.randn(width, device=timer.device, dtype=torch.bfloat16) for _ in range(2))
        for tensor in (x, weight, bias):
            tensor.requires_grad_()
        call = lambda: normalised(x, add, weight, bias)
        ms = timer.median(call)
        say(kind="theirs", op="layernorm_fwd", case=f"{rows}x{width} with residual", what="compiled layer_norm", ms=ms)
        outputs = call()
        ms = timer.median(backward_call(outputs, (x, weight, bias), (gradient_total, gradient)))
        say(kind="theirs", op="layernorm_bwd", case=f"{rows}x{width} +=", what="compiled layer_norm", ms=ms)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.fcproj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).split(width, dim=2)
        q, k, v = (p.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for p in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.fcproj(functional.gelu(self.fc(self.norm2(x)), approximate="tanh"))


class GPT2(nn.Module):
    """The published shape: learned positions, pre-norm blocks, a head tied to the embedding, vocabulary padded."""

    def __init__(self, layers, heads, width, length, vocabulary):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("positions", torch.arange(length), persistent=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe(self.positions[: ids.shape[1]])
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.wte.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Step:
    """Compiled once, then timed each time it is asked for."""

    def __init__(self, timer, small):
        self.timer, self.ready = timer, None
        self.shape = (2, 2, 64, 32, 512) if small else (12, 12, 768, SEQ_LEN, 50304)
        self.tokens, self.batches = (128, (2,)) if small else (STEP_TOKENS, (64, 32, 16, 8, 4))

    def prepare(self, batch):
        device, length, vocabulary = self.timer.device, self.shape[3], self.shape[4]
        torch.set_float32_matmul_precision("high")
        model = GPT2(*self.shape).to(device)
        compiled = torch.compile(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), fused=device == "cuda")
        ids = torch.randint(vocabulary, (batch, length), device=device)
        passes = self.tokens // (batch * length)

        def step():
            for _ in range(passes):
                with torch.autocast(device, dtype=torch.bfloat16):
                    loss = compiled(ids, ids)
                (loss / passes).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        for _ in range(WARM_UP):
            step()
        return step

    def __call__(self):
        for batch in self.batches if self.ready is None else ():
            try:
                self.ready = self.prepare(batch), batch
                break
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
        if self.ready is None:
            raise RuntimeError("GPT-2 124M does not fit")
        step, batch = self.ready
        ms = statistics.median(self.timer.once(step) for _ in range(5))
        say(kind="theirs", op="step", case="GPT-2 124M", what=f"torch.compile, {batch} sequences a pass",
            ms=ms * 1024 / self.tokens, tokens_per_s=1e3 * self.tokens / ms)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        say(kind="failure", op="torch", case="", why=f"torch {torch.__version__} sees no GPU")
        return 77
    small = args.device == "cpu"
    timer = Timer(args.device, 3 if small else ROUNDS)
    attention = [(2, 2, 32, 16, True)] if small else [
        (16, 12, 1024, 64, True), (16, 12, 1024, 64, False), (16, 25, 1024, 64, True), (8, 12, 2048, 64, True),
        (16, 6, 1024, 128, True), (8, 6, 2048, 128, True), (8, 16, 2048, 128, True),
    ]
    rows = [(64, 96)] if small else [(16384, 768), (16384, 1600)]
    calls = {"sdpa": lambda: sdpa(timer, attention), "layernorm": lambda: layernorm(timer, rows), "step": Step(timer, small)}
    device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    say(kind="torch", version=torch.__version__, cuda=torch.version.cuda, device=device)
    failed = False
    for word in sys.stdin if args.serve else args.words:
        word = word.strip()
        try:
            calls[word]()
        except (RuntimeError, KeyError) as why:
            say(kind="failure", op="torch", case=word, why=f"{type(why).__name__}: {str(why)[:300]}")
            failed = True
        if args.device == "cuda":
            torch.cuda.empty_cache()
        say(kind="done", word=word)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
