"""One experiment on one machine, from the clone to the push. A process of its own, started by a Dask worker.

In: a specification, one line of JSON on standard input, which then stays open: when it ends, the worker is gone, and
this process ends with all that it started. Out: one line of JSON with `outcome`:

    done      the experiment is where the caller looks for it, and its outputs before it
    failed    a stage failed; it would fail elsewhere too
    machine   this machine cannot do it (full disk, no network, killed); another one may
    refused   trained, but a remote does not take it; what was trained is kept here for the next call

The caller sends this file's text along, so a worker needs no checkout of the project: Git and the
environment of the lock. What a machine keeps, below `$FER_CLUSTER_FOLDER` (default ~/.cache/fer-cluster), one
folder for each repository: repository.git, cache/ (DVC's), state/ (of interrupted trainings), runs/ (clones), logs/.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import yaml
from dvc.config import Config
from filelock import FileLock, Timeout

MACHINE = Path("metrics/details/machine.json")
FULL_BYTES = 50e6  # with less space left a failure is the disk's
FULL = ("No space left on device", "The disk is full", "quota is used up", "quota exceeded")
LOST = ("failed to pull", "failed to fetch", "failed to download", "Missing cache files", "missing from cache and")
PAUSES = (5.0, 30.0)  # seconds before a push is tried again
TRANSFER_S = 3600.0  # a transfer that takes longer hangs
FORGOTTEN_S = 30 * 24 * 3600.0


class Trouble(Exception):
    """Arguments: the outcome, and why."""


def take(stack: ExitStack, kind: str, names: list[str], count: int) -> list[str]:
    """Hold `count` of this machine's cores or GPUs until the stack closes; waits until so many are free.

    Dask counts what one scheduler has given away. This also holds between workers that claim the same cores.
    """
    folder = Path(tempfile.gettempdir(), f"fer-{kind}-{os.getuid()}")
    if count > len(names):
        raise Trouble("machine", f"it has {len(names)} {kind}, and its worker promised {count} or more")
    waits = False
    while True:
        held: list[str] = []
        with FileLock(folder / "all.lock"), ExitStack() as attempt:
            for name in names:
                with suppress(Timeout):
                    attempt.enter_context(FileLock(folder / f"{name}.lock", blocking=False))
                    held.append(name)
                if len(held) == count:
                    stack.push(attempt.pop_all())
                    return held
        if not waits:
            print(f"waiting for {count} free {kind}: other runs on this machine hold them", file=sys.stderr, flush=True)
            waits = True
        time.sleep(1)


def root_folder(project: str | None) -> Path:
    """Of what a machine keeps."""
    chosen = f"{project}/.dvc/tmp/cluster" if project else os.environ.get("FER_CLUSTER_FOLDER")
    return Path(chosen or "~/.cache/fer-cluster").expanduser().absolute()


def gpu_names() -> list[str]:
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return [str(number) for number, _ in enumerate(listed.splitlines())]


def choose_backend(gpus: int) -> str:
    """What the worker's environment says; else JAX where it is installed and the run has a GPU; else TensorFlow."""
    return os.environ.get("KERAS_BACKEND") or ("jax" if gpus and find_spec("jax") else "tensorflow")


class Run:
    """The steps of one run. `spec`: fields of `Place` and `Run` in src/cluster/plan.py, with `threads` and `gpus`."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec, self.name = spec, spec["name"]
        self.base = root_folder(spec["project"]) / hashlib.sha256(spec["url"].encode()).hexdigest()[:12]
        self.ref = f"refs/exps/{spec['commit'][:2]}/{spec['commit'][2:]}/{self.name}"
        self.clone = self.base / "runs" / self.name
        self.log_path = self.base / "logs" / f"{self.name}.log"
        self.environment = {
            **os.environ,
            # A stage's `python` is the worker's own.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.clone / ".dvc/tmp/site"),
            "GDRIVE_NON_INTERACTIVE": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "WANDB_DIR": os.environ.get("WANDB_DIR") or spec["project"] or str(self.base),
        }

    def command(
        self, *words: str, folder: Path | None = None, backend: str = "tensorflow", limit: float | None = None
    ) -> int:
        """Run it, with all its output in the log; the exit code, 124 where it took longer than `limit` seconds."""
        with self.log_path.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(words)}\n")
            log.flush()
            environment = {**self.environment, "KERAS_BACKEND": backend}
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "timeout": limit}
            try:
                return subprocess.run(words, cwd=folder or self.clone, env=environment, **streams).returncode
            except subprocess.TimeoutExpired:
                log.write(f"error: no end after {limit:.0f} s\n")
                return 124

    def must(self, *words: str, folder: Path | None = None) -> None:
        if self.command(*words, folder=folder, limit=TRANSFER_S):
            raise Trouble("machine", f"`{' '.join(words[:3])}`: {self.last_words()}")

    def last_words(self) -> str:
        """The error that the log ends with; of a stage, its own words before DVC's."""
        with self.log_path.open("rb") as file:
            file.seek(max(0, self.log_path.stat().st_size - 20_000))
            text = file.read().decode(errors="replace").rpartition("\n$ ")[2]
        lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith("error: failed to push some refs")]  # why stands before
        said = [line for line in lines if line.lower().startswith(("error:", "fatal:", "remote:", "! ["))]
        ours = [line for line in said if line.startswith("error:")]
        return (ours or said or lines or ["no message"])[0 if ours or said else -1].removeprefix("ERROR: ")

    def git_output(self, *words: str) -> str:
        """What a Git command prints; nothing where it fails."""
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        return str(subprocess.run(["git", *words], cwd=self.clone, env=self.environment, **streams).stdout)

    def prepare(self) -> None:
        """A clone of its own at the exact commit, on the objects and the cache that all runs here share."""
        spec, source = self.spec, self.spec["project"] or str(self.base / "repository.git")
        if not spec["project"]:
            git = ("git", "-C", source)
            with FileLock(self.base / "repository.lock"):
                if not Path(source, "HEAD").is_file():
                    self.must("git", "init", "-q", "--bare", source, folder=self.base)
                if self.command(*git, "cat-file", "-e", f"{spec['commit']}^{{commit}}", folder=self.base):
                    wanted = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
                    self.must(*git, "fetch", "-q", spec["url"], *wanted, folder=self.base)
        shutil.rmtree(self.clone, ignore_errors=True)
        who = [word for key, value in spec["author"].items() for word in ("-c", f"user.{key}={value}")]
        self.must("git", "clone", "-q", "--shared", "-n", *who, source, str(self.clone), folder=self.base)
        self.must("git", "remote", "set-url", "origin", spec["url"])
        self.must("git", "checkout", "-q", "--detach", spec["commit"])
        (self.clone / ".dvc/config.local").write_text(spec["config"], encoding="utf-8")
        with Config(str(self.clone / ".dvc")).edit("local") as config:
            config["cache"]["dir"] = spec["cache"] or str(self.base / "cache")
            config["cache"].setdefault("type", "reflink,hardlink,copy")
        state = Path(spec["project"], ".train_state") if spec["project"] else self.base / "state"
        state.mkdir(parents=True, exist_ok=True)
        (self.clone / ".train_state").symlink_to(state)
        with (self.clone / ".git/info/exclude").open("a") as file:
            file.write("/.train_state\n")

    def fetch(self) -> None:
        """What the stages that will run read, by content; once for all runs on this machine."""
        if not self.spec["fetch"] or self.spec["project"]:
            return
        wanted = f"{self.spec['commit']} {self.spec['fetch']}"
        done = self.base / "fetched" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
        with FileLock(self.base / "fetch.lock"):
            if not done.is_file():
                self.must("dvc", "fetch", *self.spec["fetch"])
                done.parent.mkdir(exist_ok=True)
                done.touch()

    def train(self, threads: int, backend: str) -> None:
        """`dvc exp run`; what is not Keras on TensorFlow, the exports above all, never runs under another backend."""
        machine = {"host": socket.gethostname(), "threads": threads, "gpus": self.spec["gpus"], "backend": backend}
        target = self.clone / MACHINE
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(machine, indent=2) + "\n", encoding="utf-8")
        settings = [word for setting in self.spec["settings"] for word in ("-S", setting)]
        steps = [("tensorflow", self.name, settings)]
        if backend != "tensorflow":
            steps.insert(0, (backend, f"{self.name}-train", [*settings, "train"]))
        for step_backend, name, words in steps:
            self.must("git", "add", str(MACHINE))  # each time: DVC leaves it untracked
            run = ("dvc", "exp", "run", "--pull", "--allow-missing", "-n", name)
            if not self.command(*run, *words, backend=step_backend):
                continue
            last = self.last_words()
            text = self.log_path.read_text(encoding="utf-8", errors="replace").rpartition("\n$ ")[2]
            killed = "exited with -" in text
            outcome = "machine" if killed or any(sign in text for sign in (*FULL, *LOST)) else "failed"
            raise Trouble(outcome, f"{last} (a stage was killed; out of memory?)" if killed else last)

    def changed_stages(self) -> list[str]:
        """Stages whose entry in dvc.lock is not the commit's: what they wrote is what has to be pushed."""
        locks = (self.git_output("show", f"{revision}:dvc.lock") for revision in (self.spec["commit"], self.ref))
        old, new = ((yaml.load(lock, yaml.CSafeLoader) or {}).get("stages", {}) for lock in locks)
        return [stage for stage in new if new[stage] != old.get(stage)]

    def push(self) -> str:
        """The outputs first, then the experiment, which says that they are there. Returns the remote's commit."""
        stages = [] if self.spec["project"] else self.changed_stages()
        for pause in (*PAUSES, 0.0):
            if not stages or not self.command("dvc", "push", *stages, limit=TRANSFER_S):
                stages = []
                self.command("git", "push", "-q", "origin", self.ref, limit=TRANSFER_S)
                if there := self.git_output("ls-remote", "origin", self.ref).split():
                    return there[0]
            time.sleep(pause)
        raise Trouble("refused", f"`{'dvc' if stages else 'git'} push`: {self.last_words()}")

    def run(self) -> str:
        for old in (self.base / "runs").glob("*"):
            if time.time() - old.stat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(old, ignore_errors=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(FileLock(self.base / "locks" / f"{self.name}.lock"))
            cores = take(stack, "cores", [str(core) for core in sorted(os.sched_getaffinity(0))], self.spec["threads"])
            gpus = take(stack, "gpus", gpu_names(), self.spec["gpus"]) if self.spec["gpus"] else []
            self.environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
            os.sched_setaffinity(0, {int(core) for core in cores})  # TensorFlow, OpenMP and all others count these
            if not (self.clone / ".git" / self.ref).is_file():  # else trained before, and its push was refused
                self.prepare()
                self.fetch()
                self.train(len(cores), choose_backend(len(gpus)))
            commit = self.push()
            shutil.rmtree(self.clone, ignore_errors=True)
            return commit


def end_with(stream: TextIO) -> None:
    """Kill this process and all that it started when the stream ends."""
    stream.read()
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    spec = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with, args=(sys.stdin,), daemon=True).start()
    run = Run(spec)
    try:
        said = {"outcome": "done", "commit": run.run()}
    except (Trouble, OSError) as trouble:  # OSError: a full disk above all
        outcome, why = trouble.args if isinstance(trouble, Trouble) else ("machine", str(trouble))
        if outcome != "refused":
            if shutil.disk_usage(run.base.parent).free < FULL_BYTES:  # the log may be cut as well
                outcome, why = "machine", f"the disk of {run.base.parent} is full; {why}"
            shutil.rmtree(run.clone, ignore_errors=True)
        said = {"outcome": outcome, "why": why}
    print(json.dumps({**said, "host": socket.gethostname(), "log": str(run.log_path)}), flush=True)
    os._exit(0)  # the thread still reads


# --- called by Dask, on a worker ---


def place(spec: dict[str, Any], source: str) -> dict[str, Any]:
    """Run this file, given as text, in a process that lives no longer than the worker's. What it said last."""
    from distributed import get_worker

    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", "import json, sys; exec(json.loads(sys.stdin.readline()))"]  # `ps` stays readable
    process = subprocess.Popen(command, start_new_session=True, **streams)
    try:
        assert process.stdin and process.stdout
        process.stdin.write(f"{json.dumps(source)}\n{json.dumps(spec)}\n")
        process.stdin.flush()
        said = process.stdout.readline()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a stage outlives a runner that was killed
        code = process.wait()
    lost = {"outcome": "machine", "why": f"the run's own process ended with {code}", "host": socket.gethostname()}
    return {**(json.loads(said) if said else lost), "worker": get_worker().address}


def kept_runs(project: str | None) -> list[str]:
    """Names of runs that began on this machine and have not ended."""
    return [path.name for path in root_folder(project).glob("*/runs/*")]


if __name__ == "__main__":
    main()
