"""kill -9 and Ctrl-C at random moments of every stage; the next `dvc repro` ends where an undisturbed run ends.

Real DVC and real stages, in a copy of the project, on the bundled sample. One kill per stage by default;
`FER_KILLS=20 python -m pytest tests/test_kill.py --timeout=3000` is the full run, 20 to 50 minutes on two cores.
A kill that came too late, when DVC had ended well already, does not count: it is tried again, earlier.
Training must also continue where it was: test_network compares a resumed run with an undisturbed one.

The moments are drawn by a seed. Every second one falls where it hurts most: while an output is being written.
"""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from src.network.state import load_state
from src.recognition.classifier import Classifier
from src.storage import replace_file
from tests.conftest import copy_of_project, random_faces

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("FER_KILLS", "1"))
STAGES = ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote", "train", "export", "evaluate")
CHANGES = {
    "dataset": "sample",
    "split.copy_similarity": 0.95,
    "undersample.policy": "reference",
    "smote.enabled": True,
    "train.backbone": "cnn",
    "train.teacher_epochs": 0,
    "train.epochs": 6,
    "train.average_epochs": 2,
    "train.learning_rate": 0.01,
    "train.batch_size": 32,
    "evaluate.bootstrap_samples": 100,
}
POLL = 0.002  # seconds


def environment() -> dict[str, str]:
    bin_folder = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "WANDB_MODE": "disabled",
        "DVC_NO_ANALYTICS": "1",
        "CI": "1",  # keeps DVC from looking for updates in the background
    }


@dataclass
class Pipeline:
    """A copy of the project in which `dvc repro` has run once."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)  # how long each stage ran undisturbed
    fingerprint: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`dvc repro` in a process group of its own, as a terminal would run it."""
        return subprocess.Popen(
            ["dvc", "repro", *arguments],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def start_anew(self, stage: str) -> subprocess.Popen[str]:
        """The first run of a stage: DVC knows no result of it that it could restore."""
        lock = self.read_lock()
        del lock["stages"][stage]
        (self.folder / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
        shutil.rmtree(self.folder / ".dvc/cache/runs", ignore_errors=True)
        return self.start("--single-item", stage)

    def read_lock(self) -> Any:
        return yaml.safe_load((self.folder / "dvc.lock").read_text(encoding="utf-8"))

    def outputs(self) -> dict[str, str]:
        """MD5 of every file below the declared outputs; of an exported model, of its answers.

        ONNX's converter numbers its constants differently from run to run, so that even the size may differ by some
        bytes, which metrics/export.json tells.
        """
        stages = yaml.safe_load((self.folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        found = {}
        for stage in stages.values():
            for entry in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
                path = self.folder / (entry if isinstance(entry, str) else next(iter(entry)))
                for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    if not file.is_dir() and file.name != "export.json":
                        found[str(file.relative_to(self.folder))] = fingerprint(file)
        return found

    def finished_epochs(self) -> int:
        """Of a training that was killed, by its state."""
        states = [load_state(path) for path in (self.folder / ".train_state").glob("[0-9a-f]*")]
        return max((len(state.history) for state in states if state), default=0)

    def half_written(self) -> list[str]:
        """What `src.storage` has not finished, wherever it is."""
        return [
            str(path.relative_to(self.folder))
            for folder in ("data", "metrics", "models", "plots")
            for pattern in (".partial-*", ".outdated-*")
            for path in (self.folder / folder).rglob(pattern)
        ]

    def is_writing(self) -> bool:
        """The cheap form of `half_written`, for polling."""
        folders = (".train_state", "data/interim", "data/processed", "metrics", "models", "plots", "plots/faces")
        return any(list((self.folder / folder).glob(".partial-*")) for folder in folders)


def fingerprint(file: Path) -> str:
    if not file.exists():
        return "missing"
    content = file.read_bytes()
    if file.suffix in (".onnx", ".tflite"):
        content = Classifier(file).predict(random_faces(3).images).tobytes()
    return hashlib.md5(content).hexdigest()


def stage_process(dvc: subprocess.Popen[Any], stages: tuple[str, ...] = STAGES) -> tuple[str, psutil.Process] | None:
    """The stage that DVC is running, if it runs one of these."""
    try:
        for child in psutil.Process(dvc.pid).children(recursive=True):
            command = child.cmdline()
            if len(command) >= 3 and command[-2] == "-m" and command[-1].removeprefix("stages.") in stages:
                return command[-1].removeprefix("stages."), child
    except psutil.NoSuchProcess:
        pass
    return None


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The undisturbed run, with the time that each stage took."""
    folder = tmp_path_factory.mktemp("project")
    copy_of_project(folder)
    content = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    for key, value in CHANGES.items():
        *path, last = key.split(".")
        section = content
        for name in path:
            section = section[name]
        section[last] = value
    with replace_file(folder / "params.yaml") as partial:
        partial.write_text(yaml.safe_dump(content), encoding="utf-8")

    result = Pipeline(folder)
    log = folder / "repro.log"
    with log.open("w") as stream:
        process = subprocess.Popen(["dvc", "repro"], cwd=folder, env=environment(), stdout=stream, stderr=stream)
        started: dict[str, float] = {}
        while process.poll() is None:
            running = stage_process(process)
            if running:
                now = time.monotonic()
                started.setdefault(running[0], now)
                result.seconds[running[0]] = now - started[running[0]]
            time.sleep(0.02)
    assert process.returncode == 0, log.read_text()[-3000:]
    assert set(result.seconds) == set(STAGES)
    result.fingerprint = result.outputs()
    assert "missing" not in result.fingerprint.values()
    assert result.half_written() == []
    return result


def wait_for_group_to_end(group: int, seconds: float = 10) -> bool:
    """Whether no process of the group is left: neither DVC, nor the stage, nor a worker of it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def wait_for_stage(dvc: subprocess.Popen[str], stage: str) -> psutil.Process:
    while (running := stage_process(dvc, (stage,))) is None:
        assert dvc.poll() is None, f"DVC ended without running {stage}"
        time.sleep(POLL)
    return running[1]


def wait_for_moment(pipeline: Pipeline, stage: str, draw: random.Random, while_writing: bool, share: float) -> None:
    """From the start of the stage to a random moment of the first `share` of its life."""
    if not while_writing:
        time.sleep(draw.uniform(0, share) * pipeline.seconds[stage])
        return
    deadline = time.monotonic() + 2 * pipeline.seconds[stage]
    for _ in range(draw.choice((1, 2, 3)) if share == 1 else 1):  # outputs are written one after the other
        while not pipeline.is_writing() and time.monotonic() < deadline:
            time.sleep(POLL)
        time.sleep(draw.uniform(0, 0.03) * share)


def check_recovery(pipeline: Pipeline) -> str:
    """One `dvc repro` later, everything is as if nothing had happened; what it printed."""
    dvc = pipeline.start()
    output, _ = dvc.communicate()
    assert dvc.returncode == 0, output[-3000:]
    assert pipeline.outputs() == pipeline.fingerprint
    assert pipeline.half_written() == []
    return output


@pytest.fixture
def running(pipeline: Pipeline) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a failed test must not leave behind."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("stage", STAGES)
def test_killed_stage(pipeline: Pipeline, running: list[subprocess.Popen[str]], stage: str, number: int) -> None:
    """Either the stage alone is killed, as by the kernel when memory runs out, or DVC with it, as by a power cut."""
    draw = random.Random(f"{stage} {number}")
    for attempt in range(6):
        dvc = pipeline.start_anew(stage)
        running.append(dvc)
        process = wait_for_stage(dvc, stage)
        while_writing = bool((number + STAGES.index(stage)) % 2)
        wait_for_moment(pipeline, stage, draw, while_writing, share=0.5**attempt)
        if draw.random() < 0.5:
            os.killpg(dvc.pid, signal.SIGKILL)
        else:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        dvc.communicate(timeout=60)
        assert wait_for_group_to_end(dvc.pid), "a process outlived the kill"
        if dvc.returncode != 0:
            break
    assert dvc.returncode != 0, "every kill came when the stage had ended"
    finished = pipeline.finished_epochs()
    output = check_recovery(pipeline)
    if finished:
        assert f"continuing after epoch {finished} of {CHANGES['train.epochs']}" in output
    assert pipeline.finished_epochs() == 0, "the state of a finished training was left"


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("stage", ["crop", "smote"])
def test_interrupted_stage(pipeline: Pipeline, running: list[subprocess.Popen[str]], stage: str, number: int) -> None:
    """Ctrl-C reaches every process of the terminal's group."""
    pause = random.Random(f"{stage} {number}").uniform(0.1, 0.8) * pipeline.seconds[stage]
    for _ in range(5):  # a stage that was done before the signal came is interrupted earlier
        dvc = pipeline.start_anew(stage)
        running.append(dvc)
        wait_for_stage(dvc, stage)
        time.sleep(pause)
        os.killpg(dvc.pid, signal.SIGINT)
        output, _ = dvc.communicate(timeout=60)
        if dvc.returncode != 0:
            break
        pause /= 2
    assert dvc.returncode != 0, output
    assert wait_for_group_to_end(dvc.pid), "a process outlived Ctrl-C"
    check_recovery(pipeline)
