"""Each small preset on the Austen novels and the King James text: what it learns, against what needs no learning of context.

Held-out text is the last twentieth of each book. A decoder has to beat a byte trigram that knows the training text
(scripts/baseline.py), an encoder the entropy of the held-out tokens by themselves (their frequencies in that very text).
usage: families_learn.py SEODANG ROOT WORK DATA [PRESET...]
"""
import collections
import json
import math
import os
import pathlib
import re
import resource
import subprocess
import sys

BOOKS = ["pd-austen-six-novels", "pd-kjv"]
TOKENIZERS = {"gpt1": "gpt2", "gpt3": "gpt2", "roberta": "roberta", "bert": "wordpiece", "distilbert": "wordpiece"}
# "Clearly": a decoder a tenth under it, an encoder, which is told a seventh of the tokens only, a twentieth: 0.3 nats, against a
# standard error of 0.02 of a held-out loss.
DECODER_SHARE, ENCODER_SHARE = 0.9, 0.95


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"FAILED: exit {done.returncode}: {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


class Bench:
    def __init__(self, program, root, work, data):
        self.program, self.root, self.work, self.data = program, pathlib.Path(root), pathlib.Path(work), pathlib.Path(data)
        sys.path.insert(0, str(self.root / "scripts"))

    def shards(self, kind):
        """The folders of both books by a tokenizer of 2,048 entries."""
        tokenizer = self.work / f"{kind}.json"
        if not tokenizer.exists():
            special = ["--type", "wordpiece"] if kind == "wordpiece" else ["--special", kind]
            run(self.program, "tokenizer", "train", "--quiet", *special, "--vocab-size", 2048, "--out", tokenizer,
                *[self.data / f"{book}.txt" for book in BOOKS])
            for book in BOOKS:
                run(self.program, "data", "build", "--quiet", "--tokenizer", tokenizer, "--out", self.work / f"{kind}-{book}",
                    "--held-out", "0.05", "--held-out-mode", "tail", self.data / f"{book}.txt")
        return [self.work / f"{kind}-{book}" for book in BOOKS]

    def text(self, kind, split):
        return [run(self.program, "data", "text", folder, "--split", split) for folder in self.shards(kind)]

    def entropy(self, kind):
        """Of a held-out token, nats, if nothing but the tokens' frequencies is known."""
        rows = self.work / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in self.text(kind, "held-out")))
        lines = run(self.program, "tokenizer", "encode", "--tokenizer", self.work / f"{kind}.json", "--jsonl", rows)
        counts = collections.Counter(token for line in lines.splitlines() for token in json.loads(line)["ids"])
        total = sum(counts.values())
        return -sum(n / total * math.log(n / total) for n in counts.values())

    def trigram(self):
        import baseline
        train, held_out = ("".join(self.text("gpt2", split)).encode() for split in ("train", "held-out"))
        return baseline.trigram_bits_per_byte(train, held_out)

    def train(self, family):
        """Seconds of processors, and the two evaluations as one."""
        folders = self.shards(TOKENIZERS[family])
        out = self.work / family
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(self.program, "train", self.root / "configs" / f"tiny-{family}.yaml", "--quiet", "--set",
            "data.mix={" + ", ".join(f"{json.dumps(str(folder))}: 1" for folder in folders) + "}", "--out", out)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        scores = [json.loads(run(self.program, "eval", out, "--data", folder, "--json", "--quiet")) for folder in folders]
        tokens = sum(score["tokens"] for score in scores)
        nats = sum(score["loss"] * score["tokens"] for score in scores)
        result = {"loss": nats / tokens, "cpu_s": seconds}
        if scores[0]["bits_per_byte"] is not None:
            result["bits_per_byte"] = nats / math.log(2) / sum(score["bytes"] for score in scores)
        if "next_sentence_accuracy" in scores[0]:
            windows = sum(score["windows"] for score in scores)
            result["next_sentence"] = sum(s["next_sentence_accuracy"] * s["windows"] for s in scores) / windows
        return result


def parameters(bench, family):
    return re.search(r"parameters +([\d,]+)", run(bench.program, "plan", bench.root / "configs" / f"tiny-{family}.yaml",
                                                   "--on", "cpu")).group(1)


def main():
    bench = Bench(*sys.argv[1:5])
    failed = []
    for family in sys.argv[5:] or TOKENIZERS:
        kind = TOKENIZERS[family]
        found = bench.train(family)
        entropy = bench.entropy(kind)
        if "bits_per_byte" in found:
            limit, value, unit, share = bench.trigram(), found["bits_per_byte"], "bits a byte", DECODER_SHARE
        else:
            limit, value, unit, share = entropy, found["loss"], "nats a masked token", ENCODER_SHARE
        more = f", {100 * found['next_sentence']:.1f} % of pairs right" if "next_sentence" in found else ""
        print(f"{family:11} {parameters(bench, family)} parameters, {found['cpu_s']:.0f} s of one processor: {value:.4f} {unit}, "
              f"to beat {limit:.4f}; loss {found['loss']:.4f}, unigram {entropy:.4f}{more}", flush=True)
        if not value < share * limit or not found["loss"] < entropy:
            failed.append(family)
    if failed:
        sys.exit(f"FAILED: not clearly better: {', '.join(failed)}")


main()
