"""One experiment on one machine, from the clone to the push. A process of its own, started by a Dask worker.

In: a specification, one line of JSON on standard input, which then stays open: when it ends, the worker is gone, and
this process ends with all that it started. Out: lines of JSON, `{"step": ...}` and at last `{"outcome": ...}`:

    done      the experiment is where the caller looks for it, and its outputs before it
    failed    a stage failed; it would fail elsewhere too
    machine   this machine cannot do it (full disk, no network, killed); another one may
    refused   trained, but a remote does not take it; what was trained is kept here for the next call

The caller sends this file's text along, so a worker needs no checkout of the project: Python's standard library, Git,
and the environment of the lock. What a machine keeps, below `$FER_CLUSTER_FOLDER` (default ~/.cache/fer-cluster), one
folder for each repository: repository.git, cache/ (DVC's), state/ (of interrupted trainings), runs/ (clones), logs/.
"""

import configparser
import fcntl
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

MACHINE = Path("metrics/details/machine.json")
FULL_BYTES = 50e6  # with less space left a failure is the disk's
FULL = ("No space left on device", "The disk is full", "quota")
LOST = ("failed to pull", "failed to fetch", "failed to download", "Missing cache files", "missing from cache and")
PAUSES = (5.0, 30.0)  # seconds before a push is tried again
TRANSFER_S = 3600.0  # a transfer that takes longer hangs
FORGOTTEN_S = 30 * 24 * 3600.0


class Trouble(Exception):
    """Arguments: the outcome, and why."""


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock on this machine; gives False where another process has it and `wait` is off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def take(stack: ExitStack, kind: str, names: list[str], count: int) -> list[str]:
    """Hold `count` of this machine's cores or GPUs until the stack closes; waits until so many are free.

    Dask counts what one scheduler has given away. This also holds between workers that claim the same cores.
    """
    folder = Path(tempfile.gettempdir(), f"fer-{kind}-{os.getuid()}")
    if count > len(names):
        raise Trouble("machine", f"it has {len(names)} {kind}, and its worker promised {count} or more")
    while True:
        with locked(folder / "all.lock"), ExitStack() as attempt:
            held: list[str] = []
            for name in names:
                if len(held) < count and attempt.enter_context(locked(folder / f"{name}.lock", wait=False)):
                    held.append(name)
            if len(held) == count:
                stack.push(attempt.pop_all())
                return held
        time.sleep(1)


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
    """The steps of one run. `spec` is what `src.cluster.plan.Run.specification` says."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec, self.name = spec, spec["name"]
        root = spec["folder"] or os.environ.get("FER_CLUSTER_FOLDER") or "~/.cache/fer-cluster"
        place = hashlib.sha256(spec["url"].encode()).hexdigest()[:12]
        self.base = Path(root).expanduser().absolute() / place
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

    def must(self, outcome: str, *words: str, folder: Path | None = None) -> None:
        if self.command(*words, folder=folder, limit=TRANSFER_S):
            raise Trouble(outcome, f"`{' '.join(words[:3])}`: {self.last_words()}")

    def last_words(self) -> str:
        """The error that the log ends with; of a stage, its own words before DVC's."""
        with self.log_path.open("rb") as file:
            file.seek(max(0, self.log_path.stat().st_size - 20_000))
            text = file.read().decode(errors="replace").rpartition("\n$ ")[2]
        lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
        said = [line for line in lines if line.lower().startswith(("error:", "fatal:", "remote: error"))]
        ours = [line for line in said if line.startswith("error:")]
        return (ours or said or lines or ["no message"])[0 if ours or said else -1].removeprefix("ERROR: ")

    def exp_ref(self) -> str:
        commit = self.spec["commit"]
        return f"refs/exps/{commit[:2]}/{commit[2:]}/{self.name}"

    def git_output(self, *words: str, needed: bool = True) -> str:
        result = subprocess.run(
            ["git", *words],
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if result.returncode and needed:
            raise Trouble("refused", f"`git {words[0]}`: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")
        return result.stdout

    def is_trained(self) -> bool:
        """Whether an earlier attempt, whose push was refused, left the whole experiment here."""
        words = ["git", "rev-parse", "--verify", "--quiet", self.exp_ref()]
        return (self.clone / ".git").is_dir() and not subprocess.run(
            words, cwd=self.clone, capture_output=True
        ).returncode

    def prepare(self) -> None:
        """A clone of its own at the exact commit, on the objects and the cache that all runs here share."""
        spec, source = self.spec, self.spec["project"]
        if source is None:
            source = str(self.base / "repository.git")
            with locked(self.base / "repository.lock"):
                if not Path(source, "HEAD").is_file():
                    self.must("machine", "git", "init", "-q", "--bare", source, folder=self.base)
                if self.command(
                    "git", "-C", source, "cat-file", "-e", f"{spec['commit']}^{{commit}}", folder=self.base
                ):
                    wanted = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
                    self.must("machine", "git", "-C", source, "fetch", "-q", spec["url"], *wanted, folder=self.base)
        shutil.rmtree(self.clone, ignore_errors=True)
        who = [word for key, value in spec["author"].items() for word in ("-c", f"user.{key}={value}")]
        self.must("machine", "git", "clone", "-q", "--shared", "-n", *who, source, str(self.clone), folder=self.base)
        self.must("machine", "git", "remote", "set-url", "origin", spec["url"])
        self.must("machine", "git", "checkout", "-q", "--detach", spec["commit"])
        config = configparser.RawConfigParser()
        config.read_string(spec["config"])
        if not config.has_section("cache"):
            config.add_section("cache")
        config["cache"]["dir"] = spec["cache"] or str(self.base / "cache")
        config["cache"].setdefault("type", "reflink,hardlink,copy")
        with (self.clone / ".dvc/config.local").open("w", encoding="utf-8") as file:
            config.write(file)
        state = Path(spec["state"] or self.base / "state")
        state.mkdir(parents=True, exist_ok=True)
        (self.clone / ".train_state").symlink_to(state)
        with (self.clone / ".git/info/exclude").open("a") as file:
            file.write("/.train_state\n")

    def fetch(self) -> None:
        """What the stages that will run read, by content; once for all runs on this machine."""
        if not self.spec["fetch"] or self.spec["project"]:
            return
        done = self.base / "fetched" / hashlib.sha256(json.dumps(self.spec["fetch"]).encode()).hexdigest()[:16]
        with locked(self.base / "fetch.lock"):
            if not done.is_file():
                self.must("machine", "dvc", "fetch", *sorted(self.spec["fetch"]))
                done.parent.mkdir(exist_ok=True)
                done.touch()

    def train(self, threads: int, backend: str) -> None:
        """`dvc exp run`; what is not Keras on TensorFlow, the exports above all, never runs under another backend."""
        machine = {"host": socket.gethostname(), "threads": threads, "gpus": self.spec["gpus"], "backend": backend}
        target = self.clone / MACHINE
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(machine, indent=2) + "\n", encoding="utf-8")
        self.must("machine", "git", "add", str(MACHINE))
        run = ("dvc", "exp", "run", "--pull", "--allow-missing", "-n")
        settings = [word for setting in self.spec["settings"] for word in ("-S", setting)]
        code = 0
        if backend != "tensorflow":
            code = self.command(*run, f"{self.name}-train", *settings, "train", backend=backend)
        if code or self.command(*run, self.name, *settings):
            words = self.last_words()
            text = self.log_path.read_text(encoding="utf-8", errors="replace").rpartition("\n$ ")[2]
            killed = "exited with -" in text
            outcome = "machine" if killed or any(sign in text for sign in (*FULL, *LOST)) else "failed"
            raise Trouble(outcome, f"{words} (a stage was killed; out of memory?)" if killed else words)

    def changed_stages(self) -> list[str]:
        """Stages whose entry in dvc.lock is not the commit's: what they wrote is what has to be pushed."""
        import yaml

        old, new = (
            yaml.load(self.git_output("show", f"{revision}:dvc.lock", needed=False) or "{}", yaml.CSafeLoader).get(
                "stages", {}
            )
            for revision in (self.spec["commit"], self.exp_ref())
        )
        return [stage for stage in new if new[stage] != old.get(stage)]

    def push(self) -> str:
        """The outputs first, then the experiment, which says that they are there. Returns the remote's commit."""
        if self.spec["project"] is None:
            stages = self.changed_stages()
            for pause in (*PAUSES, None):
                if not stages or not self.command("dvc", "push", *stages, limit=TRANSFER_S):
                    break
                if pause is None:
                    raise Trouble("refused", f"`dvc push`: {self.last_words()}")
                time.sleep(pause)
        for pause in (*PAUSES, None):
            self.command("dvc", "exp", "push", "--no-cache", "origin", self.name, limit=TRANSFER_S)
            if there := self.git_output("ls-remote", "origin", self.exp_ref()).split():
                return str(there[0])
            if pause is None:
                raise Trouble("refused", f"`dvc exp push`: {self.last_words()}")
            time.sleep(pause)
        raise AssertionError

    def run(self, tell: Any) -> None:
        for old in (self.base / "runs").glob("*"):
            if time.time() - old.stat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(old, ignore_errors=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(locked(self.base / "locks" / f"{self.name}.lock"))
            cores = take(stack, "cores", [str(core) for core in sorted(os.sched_getaffinity(0))], self.spec["threads"])
            gpus = take(stack, "gpus", gpu_names(), self.spec["gpus"]) if self.spec["gpus"] else []
            self.environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
            os.sched_setaffinity(0, {int(core) for core in cores})  # TensorFlow, OpenMP and all others count these
            if not self.is_trained():
                tell(step="clones")
                self.prepare()
                self.fetch()
                tell(step="trains")
                self.train(len(cores), choose_backend(len(gpus)))
            tell(step="pushes")
            commit = self.push()
            shutil.rmtree(self.clone, ignore_errors=True)
            tell(outcome="done", commit=commit)


def end_with(stream: TextIO) -> None:
    """Kill this process and all that it started when the stream ends."""
    stream.read()
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    spec = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with, args=(sys.stdin,), daemon=True).start()
    here = {"host": socket.gethostname()}

    def tell(**what: Any) -> None:
        print(json.dumps({**here, **what}), flush=True)

    run = Run(spec)
    try:
        here["log"] = str(run.log_path)
        run.run(tell)
    except (Trouble, OSError) as trouble:  # OSError: a full disk above all
        outcome, why = trouble.args if isinstance(trouble, Trouble) else ("machine", str(trouble))
        if shutil.disk_usage(run.base.parent).free < FULL_BYTES and outcome != "refused":  # the log may be cut as well
            outcome, why = "machine", f"the disk of {run.base.parent} is full; {why}"
        if outcome != "refused":
            shutil.rmtree(run.clone, ignore_errors=True)
        tell(outcome=outcome, why=why)
    os._exit(0)  # the thread still reads


# --- called by Dask, on a worker ---


def place(spec: dict[str, Any], source: str) -> dict[str, Any]:
    """Run this file, given as text, in a process that lives no longer than the worker's. What it said last."""
    from distributed import get_worker

    worker = get_worker()
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    said: dict[str, Any] = {"outcome": "machine", "host": socket.gethostname()}
    try:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(spec) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if "outcome" in event:
                said = event
            else:
                worker.log_event("cluster", {"name": spec["name"], "worker": worker.address, **event})
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a stage outlives a runner that was killed
        code = process.wait()
    return {"why": f"the run's own process ended with {code}", **said, "worker": worker.address}


def kept_runs(folder: str | None) -> list[str]:
    """Names of runs that began on this machine and have not ended."""
    root = Path(folder or os.environ.get("FER_CLUSTER_FOLDER") or "~/.cache/fer-cluster").expanduser()
    return [path.name for path in root.glob("*/runs/*")]


if __name__ == "__main__":
    main()
