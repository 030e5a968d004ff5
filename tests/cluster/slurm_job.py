#!/usr/bin/env python3
"""scripts/slurm.sbatch under a real Slurm, on several nodes: trains, is signalled before its time limit, goes back into the queue,
resumes and finishes; a rank that is killed ends the attempt, and the next one goes on. Metrics and parameters are those of a run
left alone on one rank, bit for bit.

usage: slurm_job.py PROGRAM WORK ROOT NODES [SEED]
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from ranks import PATIENCE_S, Ranks, alive, await_true, fail, mpirun_here, seeded, skip

HERE = pathlib.Path(__file__).resolve().parent
# Slurm looks every 30 s from its own start on, and signals when the limit is at most LEAD_S + 30 s away: at its first look from 5 s after
# the start of an attempt on. QUEUE_S: what a job waits before it starts.
LIMIT_MIN, LEAD_S, PERIOD_S, EARLIEST_S, QUEUE_S = 2, 85, 30, 5, 3


class Slurm:
    def __init__(self, work, nodes):
        self.folder = work / "slurm"
        done = subprocess.run([HERE / "slurm.sh", "check"], capture_output=True, text=True)
        if done.returncode == 77:
            skip(done.stderr.strip())
        self.begin = begin = time.monotonic()
        subprocess.run([HERE / "slurm.sh", "up", str(nodes), self.folder], check=True, stdin=subprocess.DEVNULL)
        print(f"Slurm with {nodes} nodes is up after {time.monotonic() - begin:.2f} s", flush=True)
        lines = subprocess.run(["bash", "-c", f". {self.folder}/env; env -0"], capture_output=True, check=True).stdout
        self.environment = dict(line.decode().split("=", 1) for line in lines.split(b"\0") if b"=" in line)

    def down(self):
        subprocess.run([HERE / "slurm.sh", "down", self.folder], check=True)

    def call(self, *words, **variables):
        done = subprocess.run([str(word) for word in words], env={**self.environment, **variables}, capture_output=True, text=True,
                              cwd=self.folder.parent)
        if done.returncode != 0:
            fail(f"{words[0]}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def restarts(self, job):
        return int(re.search(r"Restarts=(\d+)", self.call("scontrol", "show", "job", job))[1])


class Batch:
    """One job of scripts/slurm.sbatch, and the file that its attempts append to."""

    def __init__(self, slurm, runs, root, run, nodes, settings, minutes=30):
        self.slurm, self.run = slurm, run
        words = [root / "scripts/slurm.sbatch", *runs.command(run)[2:3], runs.work / run]
        for setting in [*runs.settings, f"data.path={runs.work / 'data'}", *settings]:
            words += ["--set", setting]
        self.pids = runs.work / f"{run}.pids"
        self.pids.mkdir()
        said = slurm.call(*words, NODES=str(nodes), TASKS="1", TIME=str(minutes), LEAD_S=str(LEAD_S), SEODANG=self.program(runs),
                          SBATCH=f"--output={runs.work / run}.log", OMP_NUM_THREADS="1", SEODANG_PIDS=str(self.pids))
        self.job = re.search(r"Submitted batch job (\d+)", said)[1]
        self.log = runs.work / f"{run}.log"

    @staticmethod
    def program(runs):
        """The program with as_rank.sh before it, so that the test knows the process of each rank."""
        path = runs.work / "ranked"
        if not path.exists():
            path.write_text(f"#!/bin/sh\nexec {HERE}/as_rank.sh {runs.program} \"$@\"\n")
            path.chmod(0o755)
        return str(path)

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def await_text(self, pattern, seconds=PATIENCE_S):
        def there():
            nonlocal found
            found = re.search(pattern, self.text())
            return found or re.search(r"launch: (stays down|not started again|scontrol requeue failed)", self.text())
        found = None
        await_true(f"'{pattern}' in\n{self.text()}", there, seconds)
        if not found:
            fail(f"no '{pattern}':\n{self.text()}")
        return found

    def await_done(self):
        self.await_text("launch: the run is done", 5 * PATIENCE_S)
        await_true("the end of the job", lambda: not self.slurm.call("squeue", "-h", "-j", self.job, "-t", "all", "-o", "%T").strip()
                   or "COMPLETED" in self.slurm.call("squeue", "-h", "-j", self.job, "-t", "all", "-o", "%T"))


def through_a_limit(slurm, runs, root, nodes, rate):
    """As many steps as last until Slurm's next look and ten seconds more; on a machine that is faster than it was, twice as many."""
    for factor in (1, 2, 4):
        wait = PERIOD_S - (time.monotonic() + QUEUE_S + EARLIEST_S - slurm.begin) % PERIOD_S
        steps = int(rate * (EARLIEST_S + wait + 10) * factor)
        settings = [f"train.steps={steps}", f"checkpoint.every={steps // 4}"]
        run = f"limited-{factor}"
        batch = Batch(slurm, runs, root, run, nodes, settings, LIMIT_MIN)
        begin = time.monotonic()
        if batch.await_text("launch: (USR1 from Slurm|the run is done)")[1].startswith("USR1"):
            break
        print(f"{steps} steps were over before the signal", flush=True)
    else:
        fail("Slurm never signalled")
    signalled = time.monotonic()
    batch.await_text("launch: the ranks ended with 75 after USR1, newest checkpoint step-")
    ended = time.monotonic()
    batch.await_text("launch: job .*, attempt 2, .*newest checkpoint step-")
    resumed = time.monotonic()
    slurm.call("scontrol", "update", f"JobId={batch.job}", "TimeLimit=60")  # one signal is enough
    batch.await_done()
    print(f"time limit on {nodes} nodes, {steps} steps: signalled {signalled - begin:.1f} s after submission, saved and out in "
          f"{ended - signalled:.2f} s, the next attempt {resumed - ended:.1f} s later, {slurm.restarts(batch.job)} restarts", flush=True)
    if slurm.restarts(batch.job) < 1:
        fail("Slurm counted no restart")
    runs.complete("reference", 1, settings=settings)
    runs.same(run, "reference")


def through_a_kill(slurm, runs, root, nodes, rate, rng):
    steps = int(rate * 8)
    settings = [f"train.steps={steps}", f"checkpoint.every={max(1, steps // 12)}"]
    runs.complete("reference2", 1, settings=settings)
    batch = Batch(slurm, runs, root, "killed", nodes, settings)
    batch.await_text("checkpoint of step .* saved")
    victim = rng.randrange(nodes)
    pid = int((batch.pids / str(victim)).read_text())
    others = [int(path.read_text()) for path in batch.pids.iterdir() if path.name != str(victim)]
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    ranks = await_true("the end of the other ranks", lambda: not any(alive(other) for other in others))
    batch.await_text("launch: the ranks ended with")
    job = time.monotonic() - begin
    code = re.search(r"launch: the ranks ended with (\d+)", batch.text())[1]
    batch.await_done()
    print(f"rank {victim} of {nodes} killed: the others ended {ranks:.2f} s later, the attempt after {job:.2f} s with {code}, "
          f"{slurm.restarts(batch.job)} restarts", flush=True)
    runs.same("killed", "reference2")


def speed(slurm, runs, nodes):
    """Steps a second with that many ranks under this Slurm now."""
    launcher = ["srun", "-N", str(nodes), "-n", str(nodes), "--mpi=pmix"]
    with runs.job("speed", nodes, settings=["train.steps=1000000", "checkpoint.every=0"], launcher=launcher,
                  environment=slurm.environment) as job:
        job.await_steps(20)
        first, begin = runs.lines("speed"), time.monotonic()
        time.sleep(3)
        rate = (runs.lines("speed") - first) / (time.monotonic() - begin)
    print(f"{rate:.0f} steps a second on {nodes} nodes", flush=True)
    return rate


def main():
    program, work, root, nodes = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), int(sys.argv[4])
    rng = seeded(sys.argv, 5)
    if nodes > 1:
        mpirun_here(program)
    settings = ["eval.every=0"] if nodes == 1 else ["eval.every=0", "parallel.invariant=true"]
    runs = Ranks(program, work, settings)
    slurm = Slurm(work, 4)
    try:
        rate = speed(slurm, runs, nodes)
        through_a_kill(slurm, runs, root, nodes, rate, rng)
        through_a_limit(slurm, runs, root, nodes, rate)
    finally:
        slurm.down()


if __name__ == "__main__":
    main()
