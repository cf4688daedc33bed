"""Fixtures shared by the tests. Random faces here test plumbing only; the drawn sample tests learning."""

import contextlib
import importlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, settings

from src.errors import run_program
from src.expressions import EXPRESSIONS
from src.faceset import OTHER_VOTES, VOTES, FaceSet

Result = subprocess.CompletedProcess[str]
RunStage = Callable[..., Result]
Mount = Callable[[str, str], None]

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data/raw/sample"
# Workers share the files (`make test`): the longest ones first, so that none waits for another at the end.
LONGEST = (
    *("end_to_end", "network", "kill", "teammate", "push_pull", "realtime_program", "realtime_inputs", "wandb_log"),
    *("web_bad_visitors", "web", "cluster", "report", "evaluate"),
)


# A shell's background job ignores Ctrl-C, and what the tests start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run; HYPOTHESIS_PROFILE=explore draws other ones each time.
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


def random_faces(per_class: int, size: int = 48, seed: int = 0) -> FaceSet:
    """Noise with a brightness of its own for each class, so that a network can tell them apart."""
    generator = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(EXPRESSIONS)), per_class)
    images = generator.integers(0, 60, (len(codes), size, size)) + 25 * codes[:, None, None]
    names = [f"fer2013/Training_{number:05d}" for number in range(len(codes))]
    labels = pd.DataFrame(
        {
            "image_name": names,
            "source": "fer2013",
            "usage": "Training",
            "expression": [EXPRESSIONS[code] for code in codes],
            "group": names,
            "copy_of": "",
            "synthetic": False,
        }
    )
    return FaceSet(images.astype(np.uint8), labels)


def with_votes(faces: FaceSet) -> FaceSet:
    """Ten votes, 8, 6 or 4 of them for a face's class and the others for the next; every fourth has a hard label."""
    own = 10 - 2 * (np.arange(len(faces)) % 4)
    faces.labels["original_expression"] = faces.labels["expression"]
    faces.labels["label_source"] = np.where(own < 10, "ferplus", "original")
    votes = np.zeros((len(faces), 10), int)
    votes[np.arange(len(faces)), faces.targets] = own
    votes[np.arange(len(faces)), (faces.targets + 1) % 7] = 10 - own
    table = pd.DataFrame(votes, columns=[*VOTES, *OTHER_VOTES], dtype="Int64")
    return FaceSet(faces.images, faces.labels.join(table.mask(np.tile((own == 10)[:, None], 10))))


def random_network(folder: Path) -> None:
    """A `cnn` that has learned nothing, as stage train writes one."""
    from src.network.model import NetworkSpec, build_network
    from src.network.saving import TrainedNetwork, save_trained

    spec = NetworkSpec("cnn", image_size=48, input_size=48, view_fraction=1.0, head_units=0, dropout=0.2)
    save_trained(folder, TrainedNetwork(build_network(spec), spec))


def run_in(folder: Path, *command: str, check: bool = True, **variables: str) -> Result:
    """Run a command there, without tracking; with `check` it must succeed."""
    environment = {**os.environ, "WANDB_MODE": "disabled", **variables}
    result = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if check and result.returncode:
        raise AssertionError(f"{command} failed:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
    return result


def copy_of_project(folder: Path) -> Path:
    """What a user gets from `git clone`, changes not yet committed included, without any cache or data."""
    files = run_in(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0")
    for name in filter(None, files):
        source = ROOT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
    run_in(folder, "git", "init", "-q")
    run_in(folder, "git", "config", "user.name", "t")
    run_in(folder, "git", "config", "user.email", "t@example.org")
    run_in(folder, "git", "add", "-A")
    run_in(folder, "git", "commit", "-qm", "clone")
    return folder


@pytest.fixture
def params_content() -> dict:
    """params.yaml as a mapping that a test may change."""
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def run_here(stage: str) -> Result:
    """Run a stage in this process, in the current folder; what a process of its own would have returned."""
    main = importlib.import_module(f"stages.{stage}").main
    before, output, errors, code = signal.getsignal(signal.SIGINT), io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            run_program(main)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        errors.write("" if isinstance(end.code, int) else f"{end.code}\n")
    finally:
        signal.signal(signal.SIGINT, before)
    return subprocess.CompletedProcess([stage], code, output.getvalue(), errors.getvalue())


def run_alone(stage: str, folder: Path) -> Result:
    """Run a stage in a process of its own, as DVC does."""
    return run_in(folder, sys.executable, "-m", f"stages.{stage}", check=False, PYTHONPATH=str(ROOT))


@pytest.fixture
def run_stage(tmp_path: Path, params_content: dict, monkeypatch: pytest.MonkeyPatch) -> RunStage:
    """Run a stage in an empty folder: run_stage("split", split={"seed": 1}). alone: in a process of its own."""

    def run(stage: str, dataset: str = "sample", alone: bool = False, **sections: dict) -> Result:
        params_content["dataset"] = dataset
        for section, values in sections.items():
            params_content[section].update(values)
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params_content), encoding="utf-8")
        with monkeypatch.context() as context:
            context.chdir(tmp_path)
            return run_alone(stage, tmp_path) if alone else run_here(stage)

    return run


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """mount("data/processed", "size=64k"): a file system in memory at that folder; skips where that is not allowed."""
    mounted: list[Path] = []

    def do_mount(path: str, options: str) -> None:
        folder = tmp_path / path
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system is not allowed here")
        if folder not in mounted:
            mounted.append(folder)

    yield do_mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
