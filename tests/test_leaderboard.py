"""The leaderboard is read from commits and experiments; what is not here stays as it was committed."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from src.errors import UserError
from tests.conftest import ROOT
from tools.leaderboard import __main__ as program
from tools.leaderboard.entries import ENTRIES

FILES = ("metrics/evaluate.json", "metrics/train.json", "plots/history.csv", "params.yaml")


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    result = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the project's own figures."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    _git(tmp_path, "init", "-q")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _add_experiment(folder: Path, name: str, accuracy: float | None = None) -> None:
    """As DVC stores one: a commit under refs/exps."""
    path = folder / "metrics/evaluate.json"
    figures = json.loads(path.read_text())
    if accuracy is not None:
        interval = {"accuracy": accuracy, "accuracy_low": accuracy - 0.01, "accuracy_high": accuracy + 0.01}
        figures["validation"]["all"] |= interval
        path.write_text(json.dumps(figures))
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    (entry,) = (entry for entry in ENTRIES if entry.name == name)
    for setting in entry.settings:
        key, _, value = setting.partition("=")
        _set(content, key, value)
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    _git(folder, "add", "-A")
    _git(folder, "commit", "-q", "--allow-empty", "-m", name)
    _git(folder, "update-ref", f"refs/exps/ab/cdef/{name}", "HEAD")


def _table() -> pd.DataFrame:
    return pd.read_csv(program.TABLE).set_index("name")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_settings_are_parameters(entry: object) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    (experiment,) = plan(list(entry.settings), content)  # type: ignore[attr-defined]
    assert len({setting.partition("=")[0] for setting in experiment.settings}) == len(experiment.settings)


def test_table_and_pictures_are_those_of_the_experiments(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _add_experiment(project, "recipe-3", 0.5)
    _add_experiment(project, "reference-2", 0.6)
    program.rebuild()
    table, figures = _table(), json.loads((project / "metrics/evaluate.json").read_text())
    assert list(table.index) == ["reference-2", "recipe-3"]  # the best on validation first
    assert list(table["validation_accuracy"]) == [0.6, 0.5]
    assert table.loc["recipe-3", "test_fer2013_accuracy"] == figures["test"]["fer2013"]["accuracy"]
    assert table.loc["recipe-3", "test_expw_n"] == figures["test"]["expw"]["n"]
    history = pd.read_csv(project / "plots/history.csv")
    pd.testing.assert_frame_equal(pd.read_csv(program.CURVES / "recipe-3.csv"), history)
    for picture in (program.PICTURE, program.CURVES_PICTURE):
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert "reference-4: not run yet" in capsys.readouterr().out
    before = program.TABLE.read_bytes()
    program.rebuild()
    assert program.TABLE.read_bytes() == before


def test_rows_without_an_experiment_here_stay(project: Path) -> None:
    _add_experiment(project, "recipe-3", 0.5)
    program.rebuild()
    _git(project, "update-ref", "-d", "refs/exps/ab/cdef/recipe-3")
    _add_experiment(project, "reference-2", 0.6)
    program.rebuild()
    assert list(_table().index) == ["reference-2", "recipe-3"]
    assert (program.CURVES / "recipe-3.csv").is_file()


def test_the_newest_experiment_of_a_name_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
    _add_experiment(project, "recipe-3", 0.5)
    _git(project, "update-ref", "refs/exps/99/old/recipe-3", "HEAD")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-01-02T00:00:00Z")
    _add_experiment(project, "recipe-3", 0.6)
    program.rebuild()
    assert _table().loc["recipe-3", "validation_accuracy"] == 0.6


@pytest.mark.parametrize("change", ["train.epochs=7", "dataset=sample", "split.remove_copies=false"])
def test_an_experiment_with_other_settings_is_left_out(
    project: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row would stand under a description that is not its own."""
    _add_experiment(project, "recipe-3", 0.5)
    program.rebuild()
    _add_experiment(project, "recipe-3", 0.9)
    content = yaml.safe_load((project / "params.yaml").read_text())
    _set(content, *change.split("="))
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    _git(project, "add", "-A")
    _git(project, "commit", "-q", "-m", "other settings")
    _git(project, "update-ref", "refs/exps/ab/cdef/recipe-3", "HEAD")
    program.rebuild()
    assert (
        f"recipe-3: left out, {_git(project, 'rev-parse', 'HEAD')[:10]} was run with other" in capsys.readouterr().out
    )
    assert _table().loc["recipe-3", "validation_accuracy"] == 0.5


@pytest.mark.parametrize("taken", [False, True])
def test_an_experiment_is_replaced_when_its_successor_is_there(
    project: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    _git(project, "commit", "-q", "--allow-empty", "-m", "first")
    if taken:
        _add_experiment(project, "reference-2", 0.6)
    calls: list[str] = []
    monkeypatch.setattr(program, "_dvc", lambda *words: calls.append(" ".join(words[:2]) + " " + " ".join(words[-1:])))
    (entry,) = (entry for entry in ENTRIES if entry.name == "reference-2")
    program.run(entry)
    last = entry.settings[-1]
    after = ["exp remove reference-2", "exp rename reference-2"] if taken else []
    assert calls == [f"exp run {last}", *after]


def test_an_incomplete_experiment_is_named(project: Path) -> None:
    _add_experiment(project, "recipe-3", 0.5)
    (project / "plots/history.csv").unlink()
    _add_experiment(project, "reference-2", 0.6)
    with pytest.raises(UserError, match=r"reference-2 \(\w{10}\) is incomplete .*plots/history.csv.*dvc exp remove"):
        program.rebuild()
    assert not program.TABLE.exists()


@pytest.mark.parametrize("content", ["", "name,title\nrecipe-3,x\n"], ids=["empty", "other columns"])
def test_a_damaged_table_is_not_replaced(project: Path, content: str) -> None:
    program.TABLE.write_text(content)
    with pytest.raises(UserError, match=r"git checkout metrics/leaderboard\.csv"):
        program.rebuild()
    assert program.TABLE.read_text() == content


def test_nothing_run_is_an_error(project: Path) -> None:
    _git(project, "commit", "-q", "--allow-empty", "-m", "none")
    with pytest.raises(UserError, match="no entry of the leaderboard has been run"):
        program.rebuild()


def test_committed_table_is_complete() -> None:
    """Each row of the table that is in Git has its learning curve, and names an entry."""
    table = pd.read_csv(ROOT / program.TABLE)
    assert set(table["name"]) <= {entry.name for entry in ENTRIES}
    assert all((ROOT / program.CURVES / f"{name}.csv").is_file() for name in table["name"])
