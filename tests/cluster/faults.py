#!/usr/bin/env python3
"""What befalls one rank of four, and what the others make of it: how soon it is noticed, who is named, what is saved; and that the
next start goes on to the metrics and parameters of a run left alone, bit for bit.

usage: faults.py PROGRAM WORK FAULT_LIBRARY [SEED]
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from ranks import Ranks, alive, await_true, fail, mpirun_here, quoted, seeded

RANKS = 4
TIMEOUT_S = 3  # parallel.timeout
# A dead rank is noticed at once, and mpirun gives what is left two seconds; a stopped one after the timeout. Beyond that: the time
# that saving takes, and what a busy machine adds.
SLACK_S = 12
SETTINGS = ["train.steps=400", "checkpoint.every=10", "eval.every=0", "parallel.invariant=true", f"parallel.timeout={TIMEOUT_S}"]


class Faults:
    def __init__(self, runs, rng, library):
        self.runs, self.rng, self.library = runs, rng, library
        self.lines = []

    def note(self, what, seconds, code, saved):
        line = f"{what}: noticed and all ranks ended after {seconds:.2f} s, exit {code}, newest checkpoint {saved}"
        print(line, flush=True)

    def harm(self, run, rank, number):
        """Sends the signal to the rank some steps after a checkpoint; the job's end is awaited and looked at."""
        with self.runs.job(run, RANKS) as job:
            before = self.runs.newest(run)
            await_true("a new checkpoint", lambda: self.runs.newest(run) > before or job.process.poll() is not None)
            job.await_steps(self.runs.newest(run) + self.rng.randint(1, 8))
            begin = time.monotonic()
            os.kill(job.pid(rank), number)
            others = [job.pid(other) for other in range(RANKS) if other != rank]
            await_true(f"the end of the others:\n{job.text()}", lambda: not any(alive(pid) for pid in others))
            seconds = time.monotonic() - begin
            code = job.wait()
            limit = SLACK_S + (TIMEOUT_S if number == signal.SIGSTOP else 0)
            self.note(f"rank {rank} {signal.Signals(number).name}", seconds, code, self.runs.newest(run))
            if seconds > limit:
                fail(f"rank {rank}, {signal.Signals(number).name}: the others ended after {seconds:.1f} s, not {limit} s:\n{job.text()}")
            if not re.search(rf"rank {rank}\b", job.text()):
                fail(f"nobody named rank {rank}:\n{job.text()}")
            if job.living():
                fail(f"still there: {job.living()}")
        self.runs.verify(run)

    def signals(self):
        for number in (signal.SIGKILL, signal.SIGSTOP):
            run = f"each-{signal.Signals(number).name}"
            for rank in range(RANKS):
                self.harm(run, rank, number)
            self.runs.complete(run, RANKS)
            self.runs.same(run, "reference")

    def stop_request(self):
        """SIGUSR1 or SIGTERM to one rank alone: all stop at the same step, with one checkpoint of it."""
        for number in (signal.SIGUSR1, signal.SIGTERM):
            rank, run = self.rng.randrange(RANKS), f"asked-{signal.Signals(number).name}"
            with self.runs.job(run, RANKS) as job:
                job.await_steps(15)
                begin = time.monotonic()
                os.kill(job.pid(rank), number)
                code = job.wait()
                seconds = time.monotonic() - begin
                print(f"{signal.Signals(number).name} to rank {rank} alone: all out after {seconds:.2f} s, exit {code}, "
                      f"newest checkpoint {self.runs.newest(run)}", flush=True)
                if code != 75 or self.runs.newest(run) != self.runs.lines(run):
                    fail(f"exit {code}, {self.runs.lines(run)} steps, saved {self.runs.checkpoints(run)}:\n{job.text()}")
            self.runs.complete(run, RANKS)
            self.runs.same(run, "reference")

    def killed_in_save(self):
        """A rank dies at the entry of an fsync of its save: that checkpoint never comes to be, the one before is whole."""
        probe = subprocess.run(["strace", "-qq", "-o", "/dev/null", "-e", "inject=getpid:retval=1", "true"],
                               capture_output=True) if shutil.which("strace") else None
        if probe is None or probe.returncode != 0:
            print("left out: no strace that may trace, so no rank is killed in a save", flush=True)
            return
        run = "in-save"
        for rank in range(RANKS):
            call, count = self.rng.choice([("fsync", 4), ("pwrite64", 8)])  # a rank that is not the first does both in saves alone
            count = self.rng.randint(1, count)
            kill = quoted("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                          f"inject={call}:signal=SIGKILL:when={count}")
            begin = time.monotonic()
            with self.runs.job(run, RANKS, before={rank: kill}) as job:
                code = job.wait()
                if code == 0:
                    fail(f"rank {rank} was not killed in {call} of its save:\n{job.text()}")
                print(f"rank {rank} killed in {call} number {count} of its saves: the job ended {time.monotonic() - begin:.1f} s after "
                      f"its start, exit {code}, newest checkpoint {self.runs.newest(run)}", flush=True)
            self.runs.verify(run)
            self.further(run)
        self.runs.complete(run, RANKS)
        self.runs.same(run, "reference")

    def further(self, run):
        """An attempt that saves once more and is asked to stop."""
        with self.runs.job(run, RANKS) as job:
            job.await_text(r"checkpoint of step \d+ saved")
            os.kill(job.pid(0), signal.SIGTERM)
            job.wait()

    def full_disk(self):
        """The disk of one rank is full: the save is loud and names the rank, training goes on, and the next start makes it good."""
        rank, run = self.rng.randrange(RANKS), "full"
        part = f"part-{rank:04d}-of-{RANKS:04d}"
        full = quoted("env", f"LD_PRELOAD={self.library}", f"SEODANG_FAULT_PATH={part}", "SEODANG_FAULT_MODE=on",
                      "SEODANG_FAULT_ERROR=ENOSPC", "SEODANG_FAULT_AT=1")
        few = ["train.steps=40"]
        self.runs.complete("reference-40", 1, settings=few)
        with self.runs.job(run, RANKS, settings=few, before={rank: full}) as job:
            code = job.wait()
            if code != 1 or self.runs.lines(run) != 40:
                fail(f"a full disk on rank {rank}: exit {code}, {self.runs.lines(run)} steps:\n{job.text()}")
            said = re.search(rf"NOT saved.*rank {rank}\b.*No space left on device|rank {rank}\b.*NOT saved.*No space left on device",
                             job.text())
            if not said:
                fail(f"nobody said that the disk of rank {rank} is full:\n{job.text()}")
            print(f"full disk on rank {rank}: {said[0]}", flush=True)
            if self.runs.checkpoints(run):
                fail(f"saved nevertheless: {self.runs.folders(run)}")
        self.runs.complete(run, RANKS, settings=few)
        self.runs.same(run, "reference-40")

    def flipped_bit(self):
        """A bit of one part of the newest checkpoint flips: all of it is refused by name, the one before is taken."""
        run, few = "flipped", ["train.steps=40"]
        self.runs.complete(run, RANKS, settings=few)
        steps = self.runs.checkpoints(run)
        rank = self.rng.randrange(RANKS)
        newest = self.runs.work / run / "checkpoints" / f"step-{steps[-1]:08d}"
        part = newest / f"part-{rank:04d}-of-{RANKS:04d}.h5"
        whole = bytearray(part.read_bytes())
        at = self.rng.randrange(len(whole))
        whole[at] ^= 1 << self.rng.randrange(8)
        part.write_bytes(whole)
        with self.runs.job(run, 2, settings=few) as job:
            code = job.wait()
            if code != 0 or part.name not in job.text() or f"step-{steps[-2]:08d}: going on" not in job.text():
                fail(f"byte {at} of {part} was changed: exit {code}:\n{job.text()}")
            print(f"byte {at} of {part.name} changed: refused by name, step {steps[-2]} taken", flush=True)
        self.runs.verify(run)
        self.runs.same(run, "reference-40")


def main():
    program, work, library = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    rng = seeded(sys.argv, 4)
    mpirun_here(program)
    runs = Ranks(program, work, SETTINGS)
    runs.complete("reference", 1)
    faults = Faults(runs, rng, library)
    faults.signals()
    faults.stop_request()
    faults.killed_in_save()
    faults.full_disk()
    faults.flipped_bit()


if __name__ == "__main__":
    main()
