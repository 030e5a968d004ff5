"""Training runs as child processes, for the tests that stop them: starting, killing, comparing with one left alone."""
import json
import os
import pathlib
import re
import subprocess
import sys
import time


def fail(message):
    sys.exit(f"FAILED: {message}")


class Runs:
    """Runs of one configuration by one program; `work` holds tiny.yaml and data/."""

    def __init__(self, program, work, settings):
        self.program, self.work, self.settings = program, pathlib.Path(work), settings

    def command(self, run):
        words = [self.program, "train", str(self.work / "tiny.yaml"), "--set", f"data.path={self.work / 'data'}"]
        for setting in self.settings:
            words += ["--set", setting]
        return words + ["--out", str(self.work / run)]

    def start(self, run, before=()):
        """The process, and the file that its standard error goes to."""
        said = open(self.work / f"{run}.stderr", "w+")
        environment = dict(os.environ)
        if before:  # LeakSanitizer cannot work in a traced process, and says so by failing
            environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        return subprocess.Popen([*before, *self.command(run)], stdout=subprocess.DEVNULL, stderr=said,
                                env=environment), said

    def finish(self, run):
        """Runs to the end, its last step saved and said so; the seconds it took."""
        begin = time.monotonic()
        process, said = self.start(run)
        if process.wait() != 0:
            fail(f"exit {process.returncode}: {text_of(said)}")
        seconds = time.monotonic() - begin
        if self.lines(run) not in self.checkpoints(run):
            fail(f"{self.lines(run)} steps done, saved are {self.checkpoints(run)}")
        return seconds

    def metrics(self, run):
        """The lines of metrics.jsonl without what the clock decides."""
        records = [json.loads(line) for line in open(self.work / run / "metrics.jsonl")]
        for record in records:
            record.pop("time", None)
        return [json.dumps(record, sort_keys=True) for record in records]

    def lines(self, run):
        path = self.work / run / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def checkpoints(self, run):
        """Steps that have a folder with a manifest, in order."""
        found = (self.work / run / "checkpoints").glob("step-*/manifest.json")
        return sorted(int(path.parent.name[len("step-"):]) for path in found)

    def folders(self, run):
        path = self.work / run / "checkpoints"
        return sorted(os.listdir(path)) if path.exists() else []

    def verify(self, run):
        """Every folder that has a manifest must be whole."""
        folders = [str(self.work / run / "checkpoints" / f"step-{step:08d}") for step in self.checkpoints(run)]
        if not folders:
            return
        done = subprocess.run([self.program, "checkpoint", "verify", *folders], capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"a checkpoint is not whole: {done.stdout}{done.stderr}")

    def same(self, run, reference):
        if self.metrics(run) != self.metrics(reference):
            pairs = zip(self.metrics(run), self.metrics(reference))
            first = next((pair for pair in pairs if pair[0] != pair[1]), "another length")
            fail(f"other metrics than an uninterrupted run: {first}")
        done = subprocess.run([self.program, "checkpoint", "diff", str(self.work / run), str(self.work / reference)],
                              capture_output=True, text=True)
        if done.returncode != 0 or "identical" not in done.stdout:
            fail(f"other parameters than an uninterrupted run: {done.stdout}{done.stderr}")


def text_of(file):
    file.flush()
    file.seek(0)
    return file.read()


def acknowledged(said):
    """The newest step that the program called saved; 0 when none."""
    return max(map(int, re.findall(r"checkpoint of step (\d+) saved", text_of(said))), default=0)
