"""Which edits make DVC run a stage again: those after which it could come out differently, and no others."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from tests.conftest import ROOT
from tests.import_graph import UNLISTED

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def _value(params: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        params = params[part]
    return params


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code, with a dvc.lock that says that every stage has run with it. There are no data."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    lock: dict[str, Any] = {}
    for name, stage in STAGES.items():
        files = [path for path in stage["deps"] if (folder / path).is_file()]
        md5 = {path: hashlib.md5((folder / path).read_bytes()).hexdigest() for path in files}
        lock[name] = {
            "cmd": stage["cmd"],
            "deps": [{"path": path, "hash": "md5", "md5": md5[path]} for path in files],
            "params": {"params.yaml": {key: _value(params, key) for key in stage["params"]}},
        }
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}), encoding="utf-8")
    Repo.init(str(folder), no_scm=True).close()
    return folder


def changed(project: Path) -> dict[str, set[str]]:
    """Stage -> what `dvc status` calls modified."""
    with Repo(os.fspath(project)) as repo:
        found: dict[str, set[str]] = {}
        for name, entries in repo.status().items():
            for entry in entries:
                kinds = entry.get("changed deps", {}) if isinstance(entry, dict) else {}
                for path, what in kinds.items():
                    keys = what if isinstance(what, dict) else {path: what}
                    modified = {key for key, kind in keys.items() if kind == "modified"}
                    found.setdefault(name.rpartition(":")[2], set()).update(modified)
    return {name: keys for name, keys in found.items() if keys}


def test_messages_fonts_and_logs_run_nothing_again(project: Path) -> None:
    assert changed(project) == {}
    edits = dict.fromkeys(UNLISTED, "\n# Another word, another font.\n")
    for name, text in edits.items():
        (project / name).write_text((ROOT / name).read_text(encoding="utf-8") + text, encoding="utf-8")
    assert changed(project) == {}


def test_an_edit_runs_the_stages_again_that_it_can_change(project: Path) -> None:
    """One through DVC; others by what is declared: test_dvc_graph."""
    name = "src/network/model.py"
    original = (ROOT / name).read_text(encoding="utf-8")
    (project / name).write_text(original + "# A comment.\n", encoding="utf-8")
    assert changed(project) == {stage: {name} for stage in ("train", "export")}
    (project / name).write_text(original, encoding="utf-8")


def test_a_parameter_runs_its_stage_again(project: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(text.replace("  mixup: 0.2", "  mixup: 0.3"), encoding="utf-8")
    assert changed(project) == {"train": {"train"}}
    (project / "params.yaml").write_text(text, encoding="utf-8")
