"""Runs of several ranks as child processes: starting them, waiting for what they say, harming one, comparing with a run left alone."""
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from runs import Runs, acknowledged, fail, text_of  # noqa: E402

PATIENCE_S = 120  # for what should take seconds, on a machine that does other things as well


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def seeded(arguments, index):
    """The test's random numbers: of the argument, of SEODANG_TEST_SEED, else of the clock; printed, so that they can come again."""
    text = arguments[index] if len(arguments) > index else os.environ.get("SEODANG_TEST_SEED", "")
    seed = int(text) if text else int(time.time())
    print(f"seed {seed} (SEODANG_TEST_SEED={seed} repeats it)", flush=True)
    return random.Random(seed)


def alive(pid):
    """Zombies are not: whoever should have reaped them may be gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def await_true(what, condition, seconds=PATIENCE_S):
    """Polls; the seconds it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            fail(f"waited {seconds} s in vain for {what}")
        time.sleep(0.005)
    return time.monotonic() - begin


class Job:
    """One start of a run on some ranks. As a context it ends every process it started."""

    def __init__(self, ranks_of, run, ranks, name):
        self.runs, self.run, self.ranks, self.name = ranks_of, run, ranks, name
        self.pids = ranks_of.work / f"{name}.pids"
        self.process, self.said, self.begin = None, None, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def text(self):
        return text_of(self.said)

    def pid(self, rank):
        path = self.pids / str(rank)
        await_true(f"rank {rank} of {self.name}", lambda: path.exists() or self.process.poll() is not None)
        if not path.exists():
            fail(f"{self.name}: rank {rank} was never started: {self.text()}")
        return int(path.read_text())

    def started(self):
        return [int(path.read_text()) for path in sorted(self.pids.iterdir()) if path.name.isdigit()]

    def living(self):
        return [pid for pid in self.started() if alive(pid)]

    def await_text(self, pattern, seconds=PATIENCE_S):
        """Waits until the job has said it; the match."""
        end = time.monotonic() + seconds
        while True:
            over = self.process.poll() is not None
            found = re.search(pattern, self.text())
            if found:
                return found
            if over or time.monotonic() > end:
                fail(f"{self.name}: never said '{pattern}' (exit {self.process.returncode}):\n{self.text()}")
            time.sleep(0.005)

    def await_steps(self, count):
        end = time.monotonic() + PATIENCE_S
        while self.runs.lines(self.run) < count:
            if self.process.poll() is not None or time.monotonic() > end:
                fail(f"{self.name}: no {count} steps (exit {self.process.returncode}):\n{self.text()}")
            time.sleep(0.002)

    def wait(self, seconds=PATIENCE_S):
        """The launcher's exit status."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            said = self.text()
            self.kill()
            fail(f"{self.name}: still running after {seconds} s:\n{said}")

    def kill(self):
        """All of it, as a power cut would."""
        for pid in self.started():
            if alive(pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        await_true(f"the end of {self.name}", lambda: not self.living())


class Ranks(Runs):
    """Runs of one configuration on any number of ranks; `work` holds tiny.yaml and data/."""

    def __init__(self, program, work, settings):
        super().__init__(program, work, settings)
        self.starts = 0

    def launcher(self, ranks):
        if ranks == 1:
            return []
        # Processes of one machine that is shared with other tests: they yield, and are bound to no core.
        return ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]

    def job(self, run, ranks, settings=(), before=None, launcher=None, environment=None):
        """Starts it. before: {rank: "words put before that rank's command"}; environment: more variables, for all ranks."""
        self.starts += 1
        job = Job(self, run, ranks, f"{run.replace('/', '-')}.start{self.starts}")
        job.pids.mkdir()
        variables = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1",
                         OMP_WAIT_POLICY="passive", SEODANG_PIDS=str(job.pids), **(environment or {}))
        for rank, words in (before or {}).items():
            variables[f"SEODANG_AS_{rank}"] = words
        command = self.launcher(ranks) if launcher is None else launcher
        command = [*command, str(HERE / "as_rank.sh"), *self.command(run)]
        for setting in settings:
            command += ["--set", setting]
        job.said = open(self.work / f"{job.name}.said", "w+")
        job.begin = time.monotonic()
        job.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=job.said, stderr=subprocess.STDOUT,
                                       env=variables, start_new_session=True)
        return job

    def complete(self, run, ranks, **more):
        """Runs to the end, which must be a good one; the seconds it took."""
        with self.job(run, ranks, **more) as job:
            code = job.wait(10 * PATIENCE_S)
            if code != 0:
                fail(f"{job.name} on {ranks} ranks: exit {code}:\n{job.text()}")
            if self.lines(run) not in self.checkpoints(run):
                fail(f"{self.lines(run)} steps done, saved are {self.checkpoints(run)}")
            return time.monotonic() - job.begin

    def newest(self, run):
        return max(self.checkpoints(run), default=0)


def mpirun_here(program):
    """77 where the ranks of this test cannot be started."""
    if not shutil.which("mpirun"):
        skip("mpirun is not installed: scripts/setup cluster")
    if not pathlib.Path(program).with_name("libseodang_mpi.so").exists():
        skip("the program was built without MPI")


def quoted(*words):
    return " ".join(shlex.quote(str(word)) for word in words)
