#!/usr/bin/env python3
"""Ranks that do not fit together: named before any training step, on every rank, by a job that ends soon.

usage: bad_ranks.py PROGRAM WORK SKEW_LIBRARY [SEED]
"""
import os
import pathlib
import re
import subprocess
import sys
import time

from ranks import Ranks, fail, mpirun_here, quoted, seeded

SETTINGS = ["train.steps=20", "checkpoint.every=10", "eval.every=0", "parallel.timeout=5"]
JOIN_S = 3
SOON_S = 20


class Bad:
    def __init__(self, runs):
        self.runs, self.count = runs, 0

    def refused(self, what, ranks, patterns, **more):
        """Not a step is made, and the job says all of `patterns`."""
        self.count += 1
        run = f"bad{self.count}"
        with self.runs.job(run, ranks, **more) as job:
            code = job.wait()
            seconds = time.monotonic() - job.begin
            text = job.text()
            if code == 0 or self.runs.lines(run) > 0:
                fail(f"{what}: exit {code}, {self.runs.lines(run)} steps:\n{text}")
            for pattern in patterns:
                if not re.search(pattern, text):
                    fail(f"{what}: no '{pattern}' in:\n{text}")
            if seconds > SOON_S:
                fail(f"{what}: ended after {seconds:.1f} s only:\n{text}")
            said = next(line for line in text.splitlines() if re.search(patterns[0], line))
            print(f"{what}: exit {code} after {seconds:.2f} s: {said}", flush=True)


def ghosts(runs, work):
    """A batch script that starts the program without srun: one process that takes itself for rank 0 of four."""
    slurm = {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
             "SLURM_JOB_NODELIST": "n[1-4]", "SLURM_NNODES": "4", "SLURM_TASKS_PER_NODE": "1(x4)"}
    begin = time.monotonic()
    done = subprocess.run([*runs.command("ghost"), "--set", f"parallel.join_timeout={JOIN_S}"], env={**os.environ, **slurm},
                          capture_output=True, text=True)
    seconds = time.monotonic() - begin
    text = done.stdout + done.stderr
    if done.returncode == 0 or runs.lines("ghost") > 0 or not re.search(r"ranks? 1.*3", text):
        fail(f"sbatch without srun: exit {done.returncode} after {seconds:.1f} s:\n{text}")
    if not JOIN_S - 0.5 <= seconds <= JOIN_S + SOON_S:
        fail(f"sbatch without srun: ended after {seconds:.1f} s, join_timeout is {JOIN_S}:\n{text}")
    said = next(line for line in text.splitlines() if re.search(r"ranks? 1.*3", line))
    print(f"sbatch without srun: exit {done.returncode} after {seconds:.2f} s: {said}", flush=True)


def wrong_clock(runs, other, skew):
    """Times are for people to read, nothing depends on them: it is named before the first step, and the run goes on."""
    with runs.job("skewed", 4, before={other: quoted("env", f"LD_PRELOAD={skew}", "SEODANG_CLOCK_SKEW_S=3600")}) as job:
        code = job.wait()
        said = re.search(rf"^.*clock of rank {other}\b.*ahead.*$", job.text(), re.MULTILINE)
        if code != 0 or not said or said.start() > job.text().index("step 1/"):
            fail(f"a clock that is an hour ahead: exit {code}:\n{job.text()}")
        print(f"a clock that is an hour ahead: {said[0]}", flush=True)


def with_words(words):
    """Before one rank's command: more words behind it."""
    return quoted("bash", "-c", 'exec "$@" ' + words, "more")


def other_files(bad, program, work, other):
    """One host sees other files than the rest, under the same names."""
    def sees(folder):
        return quoted("unshare", "--mount", "bash", "-c", 'mount --bind "$0" "$1" && exec "${@:2}"', folder, work / "data")

    def build(name, tokenizer, held_out):
        subprocess.run([program, "data", "build", "--tokenizer", tokenizer, "--out", work / name, "--held-out", held_out,
                        "--held-out-mode", "tail", work / "book.txt"], check=True, capture_output=True)
        return work / name

    bad.refused("two datasets", 4, [rf"rank {other}\b.*data"], before={other: sees(build("shorter", work / "bytes.json", "0.2"))})
    subprocess.run([program, "tokenizer", "train", "--vocab-size", "258", "--out", work / "other.json", work / "book.txt"], check=True,
                   capture_output=True)
    bad.refused("two tokenizers", 4, [rf"rank {other}\b.*(tokenizer|data)"], settings=["model.vocab_size=258"],
                before={other: sees(build("other-tokenizer", work / "other.json", "0.1"))})
    empty = work / "no-data"
    empty.mkdir()
    bad.refused("shards that one rank alone sees", 4, [r"rank [123]\b.*data"], before={rank: sees(empty) for rank in (1, 2, 3)})


def main():
    program, work, skew = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    rng = seeded(sys.argv, 4)
    mpirun_here(program)
    runs = Ranks(program, work, SETTINGS)
    bad = Bad(runs)
    other = rng.randint(1, 3)
    ghosts(runs, work)
    bad.refused("a world that does not divide the batch", 3, [r"\b3 ranks"])
    bad.refused("two configurations", 4, [rf"rank {other}\b.*configuration|configuration.*rank {other}\b"],
                before={other: with_words("--set optimizer.lr=1e-4")})

    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0:
        other_files(bad, program, work, other)
    else:
        print("left out: hosts that see other files under the same names (no mount namespaces here)", flush=True)
    wrong_clock(runs, other, skew)


if __name__ == "__main__":
    main()
