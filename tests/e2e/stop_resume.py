#!/usr/bin/env python3
"""SIGTERM, SIGUSR1 and SIGINT: a checkpoint of the last step, exit 75, and a resumed run that equals one left alone. A second
run on the same folder and a changed configuration are refused.

usage: stop_resume.py SEODANG WORK
"""
import signal
import subprocess
import sys
import time

from runs import Runs, fail, text_of


def wait_for_lines(runs, run, process, said, count):
    end = time.monotonic() + 60
    while runs.lines(run) < count:
        if process.poll() is not None or time.monotonic() > end:
            fail(f"no {count} steps: exit {process.returncode}: {text_of(said)}")
        time.sleep(0.002)


def stop(runs, number):
    run = f"stopped{number.value}"
    process, said = runs.start(run)
    wait_for_lines(runs, run, process, said, 5)
    process.send_signal(number)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        fail(f"{number.name}: still running after 30 s")
    if process.returncode != 75:
        fail(f"{number.name}: exit {process.returncode}, not 75: {text_of(said)}")
    if runs.lines(run) not in runs.checkpoints(run):
        fail(f"{number.name}: {runs.lines(run)} steps done, saved are {runs.checkpoints(run)}")
    runs.verify(run)
    runs.finish(run)
    runs.same(run, "reference")


def refuse_second(program, work):
    runs = Runs(program, work, ["train.steps=1000000", "checkpoint.every=0", "eval.every=0"])
    first, said = runs.start("locked")
    try:
        wait_for_lines(runs, "locked", first, said, 2)
        begin = time.monotonic()
        second = subprocess.run(runs.command("locked"), capture_output=True, text=True)
        seconds = time.monotonic() - begin
        if second.returncode != 1 or f"process {first.pid}," not in second.stderr:
            fail(f"the second run on one folder: exit {second.returncode}: {second.stderr}")
        if seconds > 1.0:
            fail(f"the second run took {seconds:.1f} s to refuse")
        if first.poll() is not None:
            fail(f"the first run ended: {text_of(said)}")
    finally:
        first.kill()
        first.wait()


def refuse_changes(program, work, settings):
    changes = {"optimizer.lr=1e-4": "optimizer.lr", "train.seed=4": "train.seed", "model.dropout=0.2": "model.dropout"}
    runs = Runs(program, work, [*settings, *changes])
    done = subprocess.run(runs.command("reference"), capture_output=True, text=True)
    if done.returncode != 2 or any(key not in done.stderr for key in changes.values()):
        fail(f"a changed configuration: exit {done.returncode}: {done.stderr}")


def main():
    program, work = sys.argv[1], sys.argv[2]
    settings = ["train.steps=60", "checkpoint.every=25"]
    runs = Runs(program, work, settings)
    runs.finish("reference")
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        stop(runs, number)
    refuse_second(program, work)
    refuse_changes(program, work, settings)
    print("three signals: exit 75, no step lost; second run and changed configuration refused")


if __name__ == "__main__":
    main()
