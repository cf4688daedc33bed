"""A teammate's first hour, command by command: the real pipeline on the bundled sample, the emulator for Google Drive.

Takes two to four minutes; `make setup`, which downloads, is left out. Somebody has pushed a trained state;
a teammate clones and tries something; another one trains without any raw data.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import copy_of_project
from tests.drive_emulator import DriveEmulator
from tests.drive_machines import Machine

SETTINGS = (
    "dataset=sample", "split.copy_similarity=0.95", "train.backbone=cnn", "train.teacher_epochs=0", "train.epochs=1",
    "train.batch_size=32", "evaluate.bootstrap_samples=100", "export.int8=false", "export.multiview=false",
)  # fmt: skip
STAGE = "Running stage"
MODEL = "models/export/model.onnx"

pytestmark = pytest.mark.slow


@dataclass
class Team:
    """Who set the project up, and what the others do on computers of their own (one home folder serves all)."""

    machine: Machine
    owner: Path

    @property
    def folder(self) -> Path:
        return self.owner.parent

    def run(self, folder: Path, command: str) -> str:
        """Output of a command line whose words hold no spaces."""
        result = self.machine.run(folder, *command.split(), timeout=600)
        return result.stdout + result.stderr

    def clone(self, name: str, origin: str = "owner") -> Path:
        """Clone from Git and set the remote up, as docs/google-drive.md says."""
        target = self.folder / name
        self.run(self.folder, f"git clone -q {origin} {name}")
        self.machine.run_remote(target, "--client-file", self.machine.client_file())
        return target


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The owner has run the pipeline on the sample, committed the results and pushed the data."""
    folder = tmp_path_factory.mktemp("team")
    owner = copy_of_project(folder / "owner")
    with DriveEmulator() as drive:
        machine = Machine(folder / "home", drive)
        machine.save_token(drive.user_credentials())
        team = Team(machine, owner)
        team.run(owner, "git branch -M main")
        team.run(owner, "git rm -rq data/raw/full")  # the data sets of the published run lie on no remote of this team
        machine.run_remote(owner, "--folder", drive.folder, "--client-file", machine.client_file())
        team.run(owner, "dvc exp run --name sample " + " ".join(f"-S {setting}" for setting in SETTINGS))
        team.run(owner, "git add -A")
        team.run(owner, "git commit -qm sample")
        team.run(owner, "dvc push")
        yield team
        assert drive.damaged_objects(drive.folder) == []
        assert not drive.refused_hosts


def test_clone_pull_change_a_parameter_and_compare(team: Team) -> None:
    teammate = team.clone("teammate")
    assert not (teammate / "models/export").exists()
    team.run(teammate, "dvc pull")
    assert (teammate / MODEL).read_bytes() == (team.owner / MODEL).read_bytes()
    assert STAGE not in team.run(teammate, "dvc repro")
    assert "No changes." in team.run(teammate, "dvc data status")
    output = team.run(teammate, "dvc exp run --name warmer -S train.dropout=0.4 -S train.learning_rate=0.01")
    assert re.findall(rf"{STAGE} '(\w+)'", output) == ["train", "export", "evaluate"]
    assert "warmer" in team.run(teammate, "dvc exp show --csv")
    assert "metrics/evaluate.json" in json.loads(team.run(teammate, "dvc metrics diff --json"))
    team.run(teammate, "dvc plots diff -o build/plots")
    assert "<html" in (teammate / "build/plots/index.html").read_text().lower()


def test_train_without_raw_data(team: Team) -> None:
    """The sample is in Git; without it the clone is like one of a project whose raw data is elsewhere."""
    folder = team.clone("light")
    team.run(folder, "git rm -rq --cached data/raw/sample")
    team.run(folder, "git commit -qm no-raw-data")
    shutil.rmtree(folder / "data/raw/sample")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("label_smoothing: 0.0", "label_smoothing: 0.05"))
    output = team.run(folder, "dvc repro --pull --allow-missing")
    assert re.findall(rf"{STAGE} '(\w+)'", output) == ["train", "export", "evaluate"]
    assert not (folder / "data/raw/sample").exists()
    assert not os.path.lexists(folder / "data/interim/fer2013"), "data that training does not need was fetched"
    team.run(folder, "git add -A")
    team.run(folder, "git commit -qm smoothing")
    team.run(folder, "dvc push")
    uncommitted = json.loads(team.run(folder, "dvc data status --json")).get("uncommitted", {})
    assert set(uncommitted) <= {"deleted"}, "only what training does not need is missing"
    team.run(folder, "dvc pull")
    assert "No changes." in team.run(folder, "dvc data status")

    reader = team.clone("reader", "light")
    team.run(reader, "dvc pull export")
    assert (reader / MODEL).read_bytes() == (folder / MODEL).read_bytes() != (team.owner / MODEL).read_bytes()
