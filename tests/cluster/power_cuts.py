#!/usr/bin/env python3
"""Cuts the power of the disk that a run writes to, again and again, and resumes the run each time: no checkpoint that was called
saved is lost, every checkpoint is whole, and metrics and parameters are those of a run left alone, bit for bit.

The disk is a file with a file system on a loop device; the cut is its shutdown ioctl, after which a mount finds what had reached the
disk. Half of the cuts come right behind the word "saved", the others at random instants.

With a library that swallows fsync (all of them, or those of folders alone) the same cuts must lose something: else they prove nothing.

usage: power_cuts.py PROGRAM WORK FILESYSTEM CUTS RANKS POWER_CUT NO_SYNC [SEED]; FILESYSTEM: ext4, xfs; NO_SYNC: a library, or none
"""
import pathlib
import shutil
import subprocess
import sys
import time

from ranks import PATIENCE_S, Ranks, acknowledged, await_true, fail, mpirun_here, seeded, skip

SETTINGS = ["train.steps=60", "checkpoint.every=3", "checkpoint.keep_last=2", "eval.every=0"]
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
CONTROL_CUTS = 40  # a control that lost in 26 of 60 cuts at its weakest loses nothing in 40 once in 10^10


class Disk:
    """A file with a file system, mounted at `at`."""

    def __init__(self, work, kind, power_cut):
        self.kind, self.image, self.at, self.power_cut = kind, work / f"{kind}.image", work / "disk", power_cut
        self.at.mkdir(exist_ok=True)
        with open(self.image, "wb") as image:
            image.truncate(320 << 20)  # xfs wants 300 MiB; the file is sparse

    def make(self):
        subprocess.run([*MAKE[self.kind], str(self.image)], check=True, capture_output=True)

    def mount(self):
        return subprocess.run(["mount", "-o", "loop", str(self.image), str(self.at)], capture_output=True, text=True)

    def unmount(self):
        def gone():
            mounted = any(line.split()[1] == str(self.at) for line in open("/proc/self/mounts"))
            return not mounted or subprocess.run(["umount", str(self.at)], capture_output=True).returncode == 0
        await_true("the unmount", gone)

    def cut(self):
        return subprocess.run([self.power_cut, str(self.at)], capture_output=True, text=True)


def usable(disk):
    """Skips where this machine allows no such disk, and says what is missing."""
    if not shutil.which(MAKE[disk.kind][0], path="/usr/sbin:/sbin:/usr/bin:/bin"):
        skip(f"{MAKE[disk.kind][0]} is not installed: scripts/setup cluster")
    disk.make()
    done = disk.mount()
    if done.returncode != 0:
        skip(f"no loop mounts here: {done.stderr.strip()}")
    done = disk.cut()
    disk.unmount()
    if done.returncode != 0:
        skip(f"the file system cannot be shut down: {done.stderr.strip()}")


class Cuts:
    def __init__(self, runs, disk, ranks, rng):
        self.runs, self.disk, self.ranks, self.rng = runs, disk, ranks, rng
        self.seconds = runs.complete("reference", ranks)
        self.run, self.saved, self.attempts = "disk/run", 0, 0
        self.reach = 0.5  # how far into an attempt a cut at a random instant may come

    def fresh(self):
        self.disk.unmount()
        self.disk.make()
        done = self.disk.mount()
        if done.returncode != 0:
            fail(f"mount: {done.stderr}")
        self.saved = 0

    def attempt(self, environment=None):
        """Starts the run and cuts; None when it was done before, else how the cut came."""
        self.attempts += 1
        before = self.saved
        with self.runs.job(self.run, self.ranks, environment=environment) as job:
            behind = self.attempts % 2 == 0
            delay = self.rng.uniform(0, 0.01) if behind else self.rng.uniform(0, self.reach * self.seconds)
            wanted = before + 1 + 3 * self.rng.randint(0, 3)
            end = time.monotonic() + (PATIENCE_S if behind else delay)
            while job.process.poll() is None and time.monotonic() < end:
                if behind and acknowledged(job.said) >= wanted:
                    end, behind = time.monotonic() + delay, False
                time.sleep(0.001)
            done = job.process.poll()
            if done == 0:
                return None
            if done is not None:
                fail(f"exit {done} before the cut: {job.text()}")
            # What is said behind the cut does not count: a machine without power says nothing, but here the program lives on, and
            # XFS answers the fsync of a folder with success when the shutdown has thrown away the change that it was to wait for.
            self.saved = max(self.saved, acknowledged(job.said))
            cut = self.disk.cut()
            if cut.returncode != 0:
                fail(f"power_cut: {cut.stderr}")
            job.kill()
        self.disk.unmount()
        done = self.disk.mount()
        if done.returncode != 0:
            fail(f"mount after the cut: {done.stderr}")
        return f"cut {'behind step ' + str(self.saved) if self.attempts % 2 == 0 else f'after {delay:.3f} s'}"

    def lost(self):
        """What the cut took that had been called saved; None when nothing."""
        newest = self.runs.newest(self.run)
        if newest < self.saved:
            return f"step {self.saved} was called saved, there are {self.runs.folders(self.run)}"
        folders = [self.runs.work / self.run / "checkpoints" / f"step-{step:08d}" for step in self.runs.checkpoints(self.run)]
        if folders:
            done = subprocess.run([self.runs.program, "checkpoint", "verify", *map(str, folders)], capture_output=True, text=True)
            if done.returncode != 0:
                return f"a checkpoint is not whole: {done.stdout}{done.stderr}"
        return None


def cut_and_resume(cuts, count):
    cuts.fresh()
    done, finished = 0, 0
    while done < count:
        if cuts.attempts > 20 * count + 50:
            fail(f"{cuts.attempts} attempts, {done} cuts: the run makes no progress")
        how = cuts.attempt()
        if how is None:
            cuts.runs.same(cuts.run, "reference")
            finished += 1
            cuts.reach = max(0.05, cuts.reach * 0.7)
            cuts.fresh()
            continue
        done += 1
        lost = cuts.lost()
        if lost:
            fail(f"{how}: {lost}")
    cuts.runs.complete(cuts.run, cuts.ranks)
    cuts.runs.same(cuts.run, "reference")
    print(f"{cuts.disk.kind}: {done} power cuts on {cuts.ranks} ranks, {finished + 1} runs finished: nothing lost that was called "
          f"saved, same metrics, same parameters", flush=True)


def control(cuts, library, what):
    """Swallowed fsync: something must be lost, or a run must refuse what the cut has left."""
    environment = {"LD_PRELOAD": library, "SEODANG_NO_SYNC": what}
    cuts.fresh()
    cuts.reach = 0.5
    for count in range(1, CONTROL_CUTS + 1):
        how = cuts.attempt(environment)
        if how is None:
            cuts.fresh()
            continue
        lost = cuts.lost()
        if lost:
            print(f"{cuts.disk.kind}, fsync of {what} swallowed: cut {count}, {how}: {lost.splitlines()[0]}", flush=True)
            return
    fail(f"{CONTROL_CUTS} cuts without fsync of {what} lost nothing: this test could not see a loss")


def main():
    program, work, kind, count, ranks, power_cut, no_sync = sys.argv[1:8]
    work = pathlib.Path(work)
    rng = seeded(sys.argv, 8)
    if int(ranks) > 1:
        mpirun_here(program)
    disk = Disk(work, kind, power_cut)
    usable(disk)
    settings = SETTINGS if int(ranks) == 1 else [*SETTINGS, "parallel.invariant=true"]
    runs = Ranks(program, work, settings)
    begin = time.monotonic()
    try:
        cuts = Cuts(runs, disk, int(ranks), rng)
        cut_and_resume(cuts, int(count))
        seconds = time.monotonic() - begin
        print(f"{kind}: {seconds:.1f} s, {seconds / int(count):.2f} s a cut", flush=True)
        if no_sync != "none":
            for what in ("all", "folders"):
                control(cuts, no_sync, what)
    finally:
        disk.unmount()


if __name__ == "__main__":
    main()
