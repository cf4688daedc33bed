"""A scheduler and workers as processes, each with a folder, a cache and a home of its own; stand-in trainings.

`FER_CLUSTER_PYTHONS=/path/a/bin/python:/path/b/bin/python` gives the workers these interpreters in turn, each with an
environment of its own (requirements.txt, requirements-cluster.txt); without it all have the caller's.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tools.benchmarks.standin_project import environment, run

PATIENCE_S = 300.0
PYTHONS = os.environ.get("FER_CLUSTER_PYTHONS", sys.executable).split(":")


def wait_until(what: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return value


class Cluster:
    """`workers` start under a scheduler of their own; `call` is the program of who wants the runs."""

    def __init__(self, folder: Path, caller: Path, **variables: str) -> None:
        self.folder, self.caller = folder, caller
        self.environment = environment(
            DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="8s",
            DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT="1s",
            **variables,
        )
        self.processes: list[subprocess.Popen[Any]] = []
        self.workers: dict[str, subprocess.Popen[Any]] = {}
        file = folder / "scheduler.json"
        where = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        self._start("scheduler", sys.executable, "scheduler", *where, "--scheduler-file", str(file))
        wait_until(file.is_file)
        self.address = json.loads(file.read_text())["address"]

    def _start(self, name: str, python: str, *words: str, **variables: str) -> subprocess.Popen[Any]:
        command = [python, "-m", "distributed.cli.dask_" + words[0], *words[1:]]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment | variables, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def add_worker(self, name: str, resources: str = "threads=1", **variables: str) -> None:
        """Without a nanny: a worker that is killed stays dead, as its machine would."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        own = {"HOME": str(home), "FER_CLUSTER_FOLDER": str(home / "runs"), "TMPDIR": str(home), **variables}
        python = PYTHONS[[*self.workers, name].index(name) % len(PYTHONS)]
        kind = ("--no-nanny", "--nthreads", "2", "--no-dashboard", "--resources", resources)
        where = ("--host", "127.0.0.1", "--local-directory", str(home / "dask"))
        self.workers[name] = self._start(name, python, "worker", self.address, "--name", name, *kind, *where, **own)
        wait_until(lambda: "Registered to" in (self.folder / f"{name}.log").read_text())

    def call(self, *words: str, scheduler: bool = True) -> subprocess.Popen[str]:
        where = ["--scheduler", self.address] if scheduler else []
        return subprocess.Popen(
            [sys.executable, "-m", "src.cluster", *where, "--threads", "1", *words],
            cwd=self.caller, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def finish(self, program: subprocess.Popen[str], expect: int = 0, timeout: float | None = PATIENCE_S) -> str:
        output, _ = program.communicate(timeout=timeout)
        assert program.returncode == expect, f"{output}\n{self.logs()}"
        return output

    def run(self, *words: str, expect: int = 0, scheduler: bool = True, timeout: float | None = PATIENCE_S) -> str:
        return self.finish(self.call(*words, scheduler=scheduler), expect, timeout)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in self.folder.rglob("*.log"))

    def packages_of(self, name: str) -> set[str]:
        """Folders of the environments whose libraries the programs that it has started have loaded."""
        found = set()
        for process in family(self.workers[name])[1:]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                for loaded in process.memory_maps():
                    folder, below, _ = loaded.path.partition("/lib/python3.11/site-packages/tensorflow/")
                    found |= {folder} if below else set()
        return found

    def training_on(self, name: str) -> bool:
        """Whether a stage `train` is running there that has finished an epoch."""
        return any((self.folder / name / "runs").glob("*/state/*.json"))

    def stop(self) -> None:
        for process in self.processes:
            for one in family(process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        for process in self.processes:
            process.wait()

    def experiments(self) -> dict[str, str]:
        """Name -> commit, on the team's Git server."""
        listed = run(self.folder, "git", "ls-remote", str(self.folder / "team.git"), "refs/exps/*").stdout
        return {name.rpartition("/")[2]: commit for commit, name in re.findall(r"(\S+)\s+(\S+)", listed)}


def family(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    """A process and all that it has started; empty where it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(process.pid)
        return [top, *top.children(recursive=True)]
    return []
