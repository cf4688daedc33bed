"""The demo takes away its own last experiment and nobody else's, whatever that is called."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.report.experiments import experiment_commits
from tools import demo


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments, both at the first commit."""
    folder = tmp_path_factory.mktemp("project")
    for command in (
        "git init -q",
        "git -c user.name=t -c user.email=t@example.org commit -q --allow-empty -m first",
        "dvc init -q",
        "git update-ref refs/exps/ab/cdef/demo HEAD",
        "git update-ref refs/exps/ab/cdef/demo-20260101-000000 HEAD",
    ):
        subprocess.run(command.split(), cwd=folder, check=True)
    (folder / demo.OUTPUT).mkdir(parents=True)
    return folder


@pytest.fixture
def commit(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The commit of both, in a copy of the project."""
    monkeypatch.chdir(shutil.copytree(project, tmp_path / "project"))
    return experiment_commits()["demo"]


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (None, {"demo", "demo-20260101-000000"}),
        ("", {"demo", "demo-20260101-000000"}),
        ("demo 0123456789", {"demo", "demo-20260101-000000"}),
        ("demo-20260101-000000 {commit}", {"demo"}),
    ],
    ids=["no demo before", "an empty note", "somebody's newer one of that name", "its own"],
)
def test_only_the_last_experiment_of_the_demo_goes(commit: str, written: str | None, left: set[str]) -> None:
    if written is not None:
        demo.NAME_FILE.write_text(written.format(commit=commit))
    demo._remove_last_experiment()
    assert set(experiment_commits()) == left


def test_git_need_not_know_the_user(commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fresh machine it does not, and DVC's experiment needs a committer."""
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    code = "from scmrepo.git import Git; git = Git('.'); git.add('a'); git.stash.push('m')"  # as `dvc exp run --temp`
    Path("a").touch()
    demo._run(sys.executable, "-c", code)
