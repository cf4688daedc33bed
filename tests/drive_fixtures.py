"""Fixtures of the tests against the emulator; a test module asks for them by `pytest_plugins`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drive_emulator import FOLDER_ID, DriveEmulator
from tests.drive_machines import Machine, random_bytes, track


@pytest.fixture
def drive() -> Iterator[DriveEmulator]:
    with DriveEmulator() as emulator:
        yield emulator
        assert not emulator.refused_hosts, "something asked for a host that is not emulated"


@pytest.fixture(scope="session")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A commit of what `git init` and `dvc init` make, to copy."""
    folder = tmp_path_factory.mktemp("template") / "project"
    folder.mkdir()
    with DriveEmulator() as drive:
        machine = Machine(folder.parent / "home", drive)
        machine.run(folder, "git", "init", "-q", "-b", "main")
        machine.run(folder, "dvc", "init", "-q")
        machine.run(folder, "git", "commit", "-qm", "empty")
    return folder


@pytest.fixture(scope="session")
def project_with_data(empty_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a remote and a folder `data` of four files that is tracked and committed, not pushed, to copy."""
    folder = tmp_path_factory.mktemp("template-data") / "project"
    shutil.copytree(empty_project, folder)
    with DriveEmulator() as drive:
        machine = Machine(folder.parent / "home", drive)
        machine.run(folder, "dvc", "remote", "add", "-q", "-d", "gdrive", f"gdrive://{FOLDER_ID}/dvcstore")
        track(machine, folder, {f"{number}.bin": random_bytes(200_000, number) for number in range(4)})
    return folder
