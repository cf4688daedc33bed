"""Rows say what was run on which data, and only rows of the same faces are ranked together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from src.errors import UserError
from src.params import load_params
from tests.conftest import ROOT
from tools import leaderboard
from tools.entries import ABLATIONS, BASELINE, LEADERBOARD

Content = dict[str, Any]
ALL = LEADERBOARD | ABLATIONS


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    result = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _settings(*assignments: str) -> Content:
    """params.yaml with some settings changed."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, _, value in (assignment.partition("=") for assignment in assignments):
        *path, last = key.split(".")
        section = content
        for name in path:
            section = section[name]
        assert last in section, f"params.yaml has no {key}"
        section[last] = yaml.safe_load(value)
    return content


def _section(accuracy: float) -> Content:
    return {
        "n": 100, "accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1,
        "macro_f1": accuracy - 0.05, "per_class": {"disgust": {"recall": accuracy - 0.2}},
    }  # fmt: skip


def _commit(
    folder: Path, name: str, accuracy: float, *changes: str, validation: str = "v1", test: str = "t1", ref: bool = True
) -> None:
    """What an experiment leaves: a commit under refs/exps with lock and figures."""
    outs = {"smote": "s1", "split/validation": validation, "split/test": test}
    lock = {"stages": {"all": {
        "params": {"params.yaml": _settings(*changes)},
        "outs": [{"path": f"data/processed/{path}", "md5": md5} for path, md5 in outs.items()],
    }}}  # fmt: skip
    sections = {"ferplus": _section(accuracy), "expw": _section(accuracy / 2)}
    contents = {
        "dvc.lock": yaml.safe_dump(lock),
        "metrics/details/evaluate.json": json.dumps({"validation": sections, "test": sections}),
        "metrics/details/train.json": json.dumps({"train": {"n": 1234}, "epochs": 3}),
    }
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    _git(folder, "add", *contents)
    _git(folder, "commit", "-q", "--allow-empty", "-m", name)
    if ref:
        _git(folder, "update-ref", f"refs/exps/ab/cdef/{name}", "HEAD")
        _git(folder, "reset", "-q", "--hard", "HEAD~1")


def _entry(folder: Path, name: str, accuracy: float, *changes: str, **data: str) -> None:
    run_name, _, seed = name.rpartition("-") if name not in ALL else (name, "", "")
    more = [f"train.seed={ALL[run_name].seeds[int(seed) - 1]}"] if seed else []
    _commit(folder, name, accuracy, *ALL[run_name].settings, *more, *changes, **data)  # type: ignore[arg-type]


def _table() -> pd.DataFrame:
    return pd.read_csv(leaderboard.TABLE, dtype=str, keep_default_na=False).set_index("name")


@pytest.mark.parametrize("name", ALL)
def test_settings_are_parameters(name: str, tmp_path: Path) -> None:
    keys = [setting.partition("=")[0] for setting in ALL[name].settings]
    assert len(set(keys)) == len(keys)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(_settings(*ALL[name].settings)))
    load_params(tmp_path / "params.yaml")


def test_a_row_holds_every_setting_and_the_data(project: Path) -> None:
    _entry(project, "reference-2", 0.5)
    leaderboard.rebuild()
    row = _table().loc["reference-2"]
    assert (row["train"], row["validation"], row["test"]) == ("s1", "v1", "t1")
    flat = pd.json_normalize(_settings(*LEADERBOARD["reference-2"].settings)).iloc[0]
    assert {key: row[key] for key in flat.index} == {key: str(value) for key, value in flat.items()}
    assert row["test_ferplus_accuracy"] == "0.5" and row["test_fer2013_accuracy"] == ""


def test_other_test_sets_are_ranked_apart(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _entry(project, "reference-2", 0.5)
    _entry(project, "reference-4", 0.6)
    _entry(project, "recipe-own-labels", 0.9, test="t2")
    _commit(project, "released", 0.55, ref=False)
    leaderboard.rebuild()
    assert list(_table().index) == ["reference-4", "recipe-released", "reference-2", "recipe-own-labels"]
    shown = capsys.readouterr().out
    assert shown.index("test t1") < shown.index("reference-4  ") < shown.index("test t2") < shown.index("own-labels  ")
    before = leaderboard.TABLE.read_bytes()
    leaderboard.rebuild()
    assert leaderboard.TABLE.read_bytes() == before


def test_short_trainings_are_in_the_table_and_not_in_the_picture(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(leaderboard, "draw_accuracy", lambda path, tables, left_out: drawn.extend([*tables, left_out]))
    _entry(project, "reference-1", 0.1)
    _entry(project, "reference-2", 0.5)
    leaderboard.rebuild()
    assert list(_table().index) == ["reference-2", "reference-1"]
    assert list(drawn[0]["name"]) == ["reference-2"] and drawn[1] == ["reference-1"]


def test_rows_without_an_experiment_here_stay(project: Path) -> None:
    _entry(project, "reference-2", 0.5)
    leaderboard.rebuild()
    _git(project, "update-ref", "-d", "refs/exps/ab/cdef/reference-2")
    _entry(project, "reference-4", 0.6)
    leaderboard.rebuild()
    assert list(_table().index) == ["reference-4", "reference-2"]
    assert leaderboard.PICTURE.read_bytes().startswith(b"\x89PNG")


def test_an_experiment_with_other_settings_is_left_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _entry(project, "reference-2", 0.5)
    _entry(project, "reference-4", 0.9, "train.epochs=7")
    leaderboard.rebuild()
    assert "reference-4: left out, it was run with other settings: train.epochs=7" in capsys.readouterr().out
    assert list(_table().index) == ["reference-2"]


def test_an_incomplete_experiment_is_named(project: Path) -> None:
    _entry(project, "reference-2", 0.5)
    _git(project, "update-ref", "refs/exps/ab/cdef/reference-4", "HEAD")
    with pytest.raises(UserError, match=r"reference-4 \(\w{10}\) is incomplete \(it has no dvc.lock\).*dvc exp remove"):
        leaderboard.rebuild()
    assert not leaderboard.TABLE.exists()


@pytest.mark.parametrize("content", ["", "name,title\nreference-2,x\n"], ids=["empty", "other columns"])
def test_a_damaged_table_is_not_replaced(project: Path, content: str) -> None:
    leaderboard.TABLE.parent.mkdir()
    leaderboard.TABLE.write_text(content)
    with pytest.raises(UserError, match=r"git checkout metrics/leaderboard\.csv"):
        leaderboard.rebuild()
    assert leaderboard.TABLE.read_text() == content


def test_nothing_run_is_an_error(project: Path) -> None:
    with pytest.raises(UserError, match="nothing of the leaderboard has been run"):
        leaderboard.rebuild()


def test_every_row_in_git_says_its_test_set() -> None:
    assert (pd.read_csv(ROOT / leaderboard.TABLE, dtype=str, keep_default_na=False)["test"] != "").all()


# --- ablations ---


def test_ablations_are_means_over_seeds_on_the_same_faces(project: Path) -> None:
    for name, accuracy, validation in (
        ("baseline-1", 0.60, "v1"), ("baseline-2", 0.62, "v1"), ("smote-1", 0.7, "v1"), ("own-labels-1", 0.9, "v2"),
    ):  # fmt: skip
        _entry(project, f"ablation-{name}", accuracy, validation=validation)
    page = leaderboard.ablations_page(leaderboard.runs_of(ABLATIONS))
    same, other = page.split("## On other faces or labels (validation v2)")
    lines = {line.split("|")[1].strip(): line for line in (same + other).splitlines() if line.startswith("|")}
    assert (
        "| 2 " in lines["the recipe as it is: every face, no weights"]
        and "0.610 (0.600 to 0.620)" in lines["the recipe as it is: every face, no weights"]
    )
    assert "0.410 (0.400 to 0.420)" in lines["the recipe as it is: every face, no weights"]  # recall of disgust
    assert "0.700" in lines["SMOTE"] and " to " not in lines["SMOTE"]
    assert "SMOTE" in same and "FER2013's own labels" in other


def test_a_run_of_another_recipe_is_no_ablation(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _entry(project, f"{BASELINE}-1", 0.6)
    _entry(project, "ablation-smote-1", 0.7, "train.learning_rate=0.5")
    page = leaderboard.ablations_page(leaderboard.runs_of(ABLATIONS))
    assert "SMOTE" not in page
    assert "it differs from the baseline in train.learning_rate too" in capsys.readouterr().out


def test_ablations_need_their_baseline(project: Path) -> None:
    _entry(project, "ablation-smote-1", 0.7)
    with pytest.raises(UserError, match="ablation-baseline has not been run"):
        leaderboard.ablations_page(leaderboard.runs_of(ABLATIONS))


def test_queueing_passes_over_what_is_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _entry(project, "ablation-smote-1", 0.7)
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess:
        if command[0] == "dvc":
            calls.append(command)
            return subprocess.CompletedProcess(command, 0)
        return _real(command, **options)

    _real = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    leaderboard.queue("ablation-smote", ABLATIONS["ablation-smote"])
    (call,) = calls
    assert call[:6] == ["dvc", "exp", "run", "--queue", "--name", "ablation-smote-2"]
    assert "smote.enabled=true" in call and call[-1] == "train.seed=2"


def test_a_reader_that_has_seen_enough() -> None:
    """`--list | head -1` ends without a traceback."""
    lines = "from src.errors import run_program; run_program(lambda: print('line\\n' * 10**6))"
    with subprocess.Popen(
        [sys.executable, "-c", lines], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        assert program.stdout.readline() == "line\n"
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 141
