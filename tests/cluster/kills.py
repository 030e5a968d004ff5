#!/usr/bin/env python3
"""Kills a run of up to four ranks with SIGKILL at random instants, four times in five all of it and else one rank, and starts it again
each time on 1, 2 or 4 ranks as it comes: what was called saved is there and whole, and the end has the metrics and parameters of an
uninterrupted run of one rank, bit for bit.

usage: kills.py PROGRAM WORK KILLS [SEED]
"""
import collections
import os
import pathlib
import signal
import sys
import time

from ranks import Ranks, acknowledged, fail, mpirun_here, seeded

WORLDS = (1, 2, 4)
SETTINGS = ["train.steps=80", "checkpoint.every=4", "checkpoint.keep_last=2", "eval.every=0", "parallel.invariant=true",
            "parallel.timeout=5"]


def attempt(runs, run, rng, reach):
    """One start that a kill ends; how many ranks, and when it came. None: it was done before."""
    ranks = rng.choice(WORLDS)
    seconds = runs.seconds[ranks]
    with runs.job(run, ranks) as job:
        delay = rng.uniform(0, reach * seconds)
        end = time.monotonic() + delay
        while job.process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        code = job.process.poll()
        if code == 0:
            return None, job.said
        if code is not None:
            fail(f"{ranks} ranks: exit {code} before the kill:\n{job.text()}")
        one = rng.random() < 0.2 and len(job.started()) == ranks
        if one:
            os.kill(rng.choice(job.started()), signal.SIGKILL)
            job.wait()
        job.kill()
        return f"{'one of ' if one else ''}{ranks} ranks after {delay:.3f} s", job.said


def main():
    program, work, kills = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    rng = seeded(sys.argv, 4)
    mpirun_here(program)
    runs = Ranks(program, work, SETTINGS)
    runs.seconds = {ranks: runs.complete("reference" if ranks == 1 else f"reference{ranks}", ranks) for ranks in WORLDS}
    for ranks in WORLDS[1:]:
        runs.same(f"reference{ranks}", "reference")
    print("uninterrupted: " + ", ".join(f"{ranks} ranks {seconds:.1f} s" for ranks, seconds in runs.seconds.items()), flush=True)
    begin, done, attempts, finished, saved = time.monotonic(), 0, 0, 0, 0
    worlds, reach, run = collections.Counter(), 0.6, "run0"
    while done < kills:
        attempts += 1
        if attempts > 20 * kills + 50:
            fail(f"{attempts} attempts, {done} kills: the run makes no progress")
        before = runs.newest(run)
        how, said = attempt(runs, run, rng, reach)
        if how is None:
            runs.same(run, "reference")
            reach = max(0.1, reach * 0.7)
            finished, saved, run = finished + 1, 0, f"run{finished + 1}"
            continue
        done += 1
        worlds[how.split(" after")[0]] += 1
        if runs.newest(run) == before:
            reach = min(1.0, reach * 1.1)
        saved = max(saved, acknowledged(said))
        if saved > runs.newest(run):
            fail(f"{how}: step {saved} was called saved, there are {runs.folders(run)}")
        runs.verify(run)
    runs.complete(run, rng.choice(WORLDS))
    runs.same(run, "reference")
    seconds = time.monotonic() - begin
    print(f"{done} kills ({', '.join(f'{count} x {what}' for what, count in sorted(worlds.items()))}), {finished + 1} runs finished, "
          f"{seconds:.1f} s, {seconds / done:.2f} s a kill: nothing lost that was called saved, same metrics, same parameters")


if __name__ == "__main__":
    main()
