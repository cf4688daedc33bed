"""kill -9 and Ctrl-C at random moments of every stage; the next `dvc repro` ends where an undisturbed run ends.

Real DVC and real stages, in a copy of the project, on the bundled sample. One kill per stage by default;
`FER_KILLS=20 python -m pytest tests/test_kill.py --timeout=3000` is the full run, 20 to 50 minutes on two cores.
A kill that came too late, when DVC had ended well already, does not count: it is tried again, earlier.
Training must also continue where it was: test_network compares a resumed run with an undisturbed one.

The moments are drawn by a seed. Every second one falls where it hurts most: while an output is being written.
"""

import contextlib
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
from tests.conftest import copy_of_project

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("FER_KILLS", "1"))
STAGES = ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote", "train", "export", "evaluate")
EPOCHS = 6
CHANGES: dict[str, dict[str, Any]] = {
    "split": {"copy_similarity": 0.95},
    "undersample": {"policy": "reference"},
    "smote": {"enabled": True},
    "train": {
        "backbone": "cnn", "teacher_epochs": 0, "epochs": EPOCHS, "average_epochs": 2, "learning_rate": 0.01,
        "batch_size": 32,
    },
    "evaluate": {"bootstrap_samples": 100},
}  # fmt: skip
POLL = 0.002  # seconds


@dataclass
class Pipeline:
    """A copy of the project in which `dvc repro` has run once."""

    folder: Path
    fingerprint: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`dvc repro` in a process group of its own, as a terminal would run it."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # CI keeps DVC from looking for updates in the background.
        environment = {**os.environ, "PATH": path, "WANDB_MODE": "disabled", "DVC_NO_ANALYTICS": "1", "CI": "1"}
        return subprocess.Popen(
            ["dvc", "repro", *arguments], cwd=self.folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            # A process started in the background of a shell ignores SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

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
        """MD5 of every output, as DVC found it when the stage had ended."""
        return {out["path"]: out["md5"] for stage in self.read_lock()["stages"].values() for out in stage["outs"]}

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


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """After the undisturbed run."""
    folder = tmp_path_factory.mktemp("project")
    copy_of_project(folder)
    content = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    content["dataset"] = "sample"
    for section, changes in CHANGES.items():
        content[section].update(changes)
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    result = Pipeline(folder)
    process = result.start()
    output, _ = process.communicate()
    assert process.returncode == 0, output[-3000:]
    result.fingerprint = result.outputs()
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
    while dvc.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(dvc.pid).children(recursive=True):
                if child.cmdline()[-2:] == ["-m", f"stages.{stage}"]:
                    return child
        time.sleep(POLL)
    raise AssertionError(f"DVC ended without running {stage}")


def wait_for_moment(
    pipeline: Pipeline, process: psutil.Process, draw: random.Random, while_writing: bool, share: float
) -> None:
    """From the start of the stage to a random moment of the first `share` of 10 seconds, or of an output's writing."""
    if not while_writing:
        time.sleep(draw.uniform(0, share) * 10)
        return
    for _ in range(draw.choice((1, 2, 3)) if share == 1 else 1):  # outputs are written one after the other
        while not pipeline.is_writing() and process.is_running():
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


HOW = ("the stage", "all", "Ctrl-C")  # as the kernel does when memory runs out; a power cut; to all of a terminal


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("stage", STAGES)
def test_ended_stage(pipeline: Pipeline, running: list[subprocess.Popen[str]], stage: str, number: int) -> None:
    turn = number + STAGES.index(stage)
    how, while_writing, draw = HOW[turn % 3], turn % 2 == 1, random.Random(f"{stage} {number}")
    for attempt in range(8):
        dvc = pipeline.start_anew(stage)
        running.append(dvc)
        process = wait_for_stage(dvc, stage)
        wait_for_moment(pipeline, process, draw, while_writing, share=0.5**attempt)
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if how == "the stage":
                process.kill()
            else:
                os.killpg(dvc.pid, signal.SIGINT if how == "Ctrl-C" else signal.SIGKILL)
        dvc.communicate(timeout=60)
        assert wait_for_group_to_end(dvc.pid), "a process outlived it"
        if dvc.returncode != 0:
            break
    assert dvc.returncode != 0, "it came when the stage had ended, every time"
    finished = pipeline.finished_epochs()
    output = check_recovery(pipeline)
    if finished:
        assert f"continuing after epoch {finished} of {EPOCHS}" in output
    assert pipeline.finished_epochs() == 0, "the state of a finished training was left"
