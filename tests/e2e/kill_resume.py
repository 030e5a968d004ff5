#!/usr/bin/env python3
"""Kills a training run with SIGKILL again and again, restarts it with the same command each time, and compares the metrics and
the parameters with those of a run left alone: byte for byte.

Half of the kills come at random instants; the others, where strace is present, at the entry of a chosen system call of a
save: write, fsync, rename, mkdir, unlink. After each kill every checkpoint with a manifest must be whole, and none that was
called saved may be lost.

usage: kill_resume.py SEODANG WORK KILLS [SEED]
"""
import random
import shutil
import subprocess
import sys
import time

from runs import Runs, acknowledged, fail, text_of

# system call -> how many of it, at most, are let through before the kill
CALLS = {"rename": 8, "pwrite64": 60, "write": 60, "fsync": 40, "mkdir": 6, "unlink": 12, "rmdir": 3, "openat": 120}
SETTINGS = ["train.steps=48", "checkpoint.every=3", "checkpoint.keep_last=2"]


def have_strace():
    if not shutil.which("strace"):
        return False
    probe = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=getpid:retval=1", "true"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def kill_at_call(runs, run, rng, reach):
    """Starts the run under a trace that kills it at the k-th call of one kind; says what and when."""
    call = rng.choice(sorted(CALLS))
    count = rng.randint(1, max(1, round(CALLS[call] * reach)))
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
             f"inject={call}:signal=SIGKILL:when={count}"]
    process, said = runs.start(run, trace)
    process.wait()
    return process, said, f"{call} number {count}"


def kill_at_instant(runs, run, rng, longest):
    process, said = runs.start(run)
    delay = rng.uniform(0.0, longest)
    end = time.monotonic() + delay
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    process.kill()
    process.wait()
    return process, said, f"{delay:.3f} s"


def compare(runs, run, seed):
    runs.same(run, "reference")
    if any(not name.startswith("step-") for name in runs.folders(run)):
        fail(f"seed {seed}: left behind: {runs.folders(run)}")


def main():
    program, work, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 20261123
    rng = random.Random(seed)
    runs = Runs(program, work, SETTINGS)
    traced = have_strace()
    seconds = runs.finish("reference")
    with open(runs.work / "reference.stderr") as said:
        if acknowledged(said) == 0:
            fail("the program does not say which checkpoints are saved")
    done, finished, attempts, saved = 0, 0, 0, 0
    reach = 0.5  # how far into an attempt a kill may come; less after a run that got away, more after one that got nowhere
    run = "run0"
    while done < kills:
        attempts += 1
        if attempts > 20 * kills + 50:
            fail(f"seed {seed}: {attempts} attempts, {done} kills: the run makes no progress")
        pick = traced and attempts % 2 == 0
        before = max(runs.checkpoints(run), default=0)
        if pick:
            process, said, where = kill_at_call(runs, run, rng, reach)
        else:
            process, said, where = kill_at_instant(runs, run, rng, reach * seconds)
        if process.returncode == 0:
            reach = max(0.05, reach * 0.7)
            compare(runs, run, seed)
            finished, saved, run = finished + 1, 0, f"run{finished + 1}"
            continue
        if process.returncode not in (-9, 137):
            fail(f"seed {seed}, killed at {where}: exit {process.returncode}: {text_of(said)}")
        done += 1
        if max(runs.checkpoints(run), default=0) == before:
            reach = min(1.0, reach * 1.1)
        saved = max(saved, acknowledged(said))
        if saved > max(runs.checkpoints(run), default=0):
            fail(f"seed {seed}, killed at {where}: step {saved} was called saved, there are {runs.folders(run)}")
        runs.verify(run)
    runs.finish(run)
    compare(runs, run, seed)
    how = "half of them in chosen system calls" if traced else "strace is absent: all at random instants"
    print(f"{done} kills ({how}), {finished + 1} runs finished: same metrics, same parameters")


if __name__ == "__main__":
    main()
