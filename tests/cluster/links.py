#!/usr/bin/env python3
"""Four hosts, and a link between them that is cut in mid-run. Both sides end by themselves within the timeout; the run goes on on the
other hosts. And the ghost: an attempt that was cut off without noticing, on a file system whose locks do not reach other hosts, comes
back while the next attempt is running: it may neither commit nor take the new one down.

The hosts are network namespaces of this machine (nodes.sh), the launcher is Open MPI's mpirun.

usage: links.py PROGRAM WORK [SEED]
"""
import os
import pathlib
import re
import subprocess
import sys
import time

from ranks import Ranks, alive, await_true, fail, mpirun_here, quoted, seeded, skip

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT_S = 4
SLACK_S = 12
SETTINGS = ["train.steps=300", "checkpoint.every=10", "eval.every=0", "parallel.invariant=true"]
KEEPALIVE = [word for name, seconds in (("time", 3), ("intvl", 1), ("probes", 2))
             for word in ("--mca", f"oob_tcp_keepalive_{name}", str(seconds))]


class Nodes:
    def __init__(self, work, count):
        self.folder = work / "nodes"
        done = subprocess.run([HERE / "nodes.sh", "check"], capture_output=True, text=True)
        if done.returncode == 77:
            skip(done.stderr.strip())
        begin = time.monotonic()
        self.call("up", str(count), self.folder)
        print(f"{count} hosts are up after {time.monotonic() - begin:.2f} s", flush=True)

    @staticmethod
    def call(*words):
        done = subprocess.run([HERE / "nodes.sh", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            fail(f"nodes.sh {words}: {done.stdout}")

    def cut(self, host):
        self.call("cut", self.folder, host)

    def mend(self, host):
        self.call("mend", self.folder, host)

    def down(self):
        self.call("down", self.folder)

    def launcher(self, hosts, words=()):
        return [HERE / "nodes.sh", "in", self.folder, "head", "mpirun", "-n", str(len(hosts)), "--host",
                ",".join(f"{host}:1" for host in hosts), "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1", "--mca", "plm", "rsh",
                "--mca", "plm_rsh_agent", HERE / "node_rsh", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "eth0", "--mca",
                "oob_tcp_if_include", "eth0,switch", *words]

    def job(self, runs, run, hosts, timeout, launcher_words=(), **more):
        return runs.job(run, len(hosts), launcher=self.launcher(hosts, launcher_words), settings=[f"parallel.timeout={timeout}"],
                        environment={"SEODANG_NODES": str(self.folder)}, **more)


def cut_in_mid_run(nodes, runs, run, cut):
    """The link of host `cut` goes away; then the run goes on on two of the others while it is away, and after it is back."""
    hosts = ["h1", "h2", "h3", "h4"]
    with nodes.job(runs, run, hosts, TIMEOUT_S) as job:
        job.await_text(r"checkpoint of step \d+ saved")
        rank = hosts.index(cut)
        pids = [job.pid(rank) for rank in range(4)]
        begin = time.monotonic()
        nodes.cut(cut)
        ended = {}

        def over():
            for other, pid in enumerate(pids):
                if other not in ended and not alive(pid):
                    ended[other] = time.monotonic() - begin
            return len(ended) == 4
        await_true(f"the end of both sides:\n{job.text()}", over)
        there = max(seconds for other, seconds in ended.items() if other != rank)
        print(f"link of rank {rank} ({cut}) cut, timeout {TIMEOUT_S} s: the cut-off rank ended after {ended[rank]:.2f} s, the others after "
              f"{there:.2f} s", end="", flush=True)
        # Open MPI 4.1's mpirun now waits for ever for its daemon on the host that is cut off: what it launched is over all the same.
        job.kill()
        print(f"; newest checkpoint {runs.newest(run)}", flush=True)
        if max(ended.values()) > TIMEOUT_S + SLACK_S:
            fail(f"ended after {ended}:\n{job.text()}")
        if rank != 0 and not re.search(rf"rank {rank}\b", job.text()):
            fail(f"nobody named rank {rank}:\n{job.text()}")
    runs.verify(run)
    rest = [host for host in hosts if host != cut][:2]
    with nodes.job(runs, run, rest, TIMEOUT_S) as job:
        job.await_text(r"checkpoint of step \d+ saved")
        nodes.mend(cut)
        code = job.wait()
        if code != 0:
            fail(f"on {rest}: exit {code}:\n{job.text()}")
    runs.same(run, "reference")


def noticed_by_mpirun(nodes, runs):
    """With keepalive probes that give up before the watchdog does (scripts/run_mpi sets such) mpirun itself ends its side of the run."""
    with nodes.job(runs, "kept-alive", ["h1", "h2"], 12, launcher_words=KEEPALIVE) as job:
        job.await_text(r"checkpoint of step \d+ saved")
        begin = time.monotonic()
        nodes.cut("h2")
        code = job.wait()
        mpirun = time.monotonic() - begin
        await_true(f"the end of both sides:\n{job.text()}", lambda: not job.living())
        nodes.mend("h2")
        print(f"link cut, probes of mpirun give up after 5 s: mpirun ended after {mpirun:.2f} s with {code}, the cut-off rank after "
              f"{time.monotonic() - begin:.2f} s (timeout 12 s)", flush=True)
        if code == 0 or mpirun > 5 + SLACK_S:
            fail(f"mpirun ended after {mpirun:.1f} s with {code}:\n{job.text()}")
    runs.verify("kept-alive")
    runs.complete("kept-alive", 2)
    runs.same("kept-alive", "reference")


def ghost(nodes, runs):
    """The first attempt's file locks lock nothing, and its timeout is long: nothing but the fence keeps it from committing."""
    run = "haunted"
    no_lock = quoted("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:retval=0")
    if subprocess.run(["strace", "-qq", "-o", "/dev/null", "-e", "inject=flock:retval=0", "true"], capture_output=True).returncode != 0:
        print("left out: the ghost, for no strace may trace here", flush=True)
        return
    with nodes.job(runs, run, ["h1", "h2"], 300, before={0: no_lock}) as old:
        old.await_text(r"checkpoint of step \d+ saved")
        nodes.cut("h2")
        cut, steps = time.monotonic(), runs.lines(run)
        await_true("the standstill of the cut attempt", lambda: standstill(runs, run), 30)
        with nodes.job(runs, run, ["h3", "h4"], 30) as new:
            new.await_text(r"checkpoint of step \d+ saved")
            if not all(alive(pid) for pid in old.started()):
                fail(f"the ghost was gone before it could haunt:\n{old.text()}")
            nodes.mend("h2")
            back = time.monotonic()
            code = new.wait()
            if code != 0:
                fail(f"the new attempt: exit {code}:\n{new.text()}\nthe ghost:\n{old.text()}")
            await_true(f"the end of the ghost:\n{old.text()}", lambda: not old.living())
            over, code = time.monotonic(), old.wait()
        print(f"ghost: cut at step {steps}, back {back - cut:.1f} s later beside a new attempt on other hosts, ended {over - back:.1f} s "
              f"after its return with {code}; the new attempt finished", flush=True)
        if code == 0 or not re.search(r"newer attempt|attempt \d+ .*(owns|took|taken)", old.text()):
            fail(f"the ghost ended with {code} and does not say why:\n{old.text()}")
    runs.verify(run)
    runs.same(run, "reference")


def standstill(runs, run):
    before = runs.lines(run)
    time.sleep(1.0)
    return runs.lines(run) == before


def main():
    program, work = sys.argv[1], pathlib.Path(sys.argv[2])
    rng = seeded(sys.argv, 3)
    mpirun_here(program)
    if os.geteuid() != 0:
        skip("mpirun between namespaces needs root")
    runs = Ranks(program, work, SETTINGS)
    nodes = Nodes(work, 4)
    try:
        runs.complete("reference", 1)
        cut_in_mid_run(nodes, runs, "cut-0", "h1")
        cut_in_mid_run(nodes, runs, "cut-n", f"h{rng.randint(2, 4)}")
        noticed_by_mpirun(nodes, runs)
        ghost(nodes, runs)
    finally:
        nodes.down()


if __name__ == "__main__":
    main()
