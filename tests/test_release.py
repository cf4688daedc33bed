"""What goes to pretrained/: whole, small enough for Git, never a model of drawn faces."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.classifier import VARIANTS
from src.errors import UserError
from src.release import FILES, MAX_BYTES, release
from tests.conftest import ROOT


def _models(folder: Path) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_release_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained/old").write_text("old")
    release(_models(tmp_path / "models"), tmp_path / "pretrained")
    assert sorted(path.name for path in (tmp_path / "pretrained").iterdir()) == [
        "model.onnx", "model.tflite", "model_card.md",
    ]  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS.values())
def test_a_variant_goes_along(tmp_path: Path, name: str) -> None:
    models = _models(tmp_path / "models")
    (models / "export" / name).write_text("small")
    release(models, tmp_path / "pretrained")
    assert (tmp_path / "pretrained" / name).read_text() == "small"


@pytest.mark.parametrize("missing", FILES)
def test_missing_file_keeps_the_old_release(tmp_path: Path, missing: str) -> None:
    release(_models(tmp_path / "models"), tmp_path / "pretrained")
    (tmp_path / "models" / missing).unlink()
    with pytest.raises(UserError, match="dvc repro"):
        release(tmp_path / "models", tmp_path / "pretrained")
    assert len(list((tmp_path / "pretrained").iterdir())) == 3


def test_a_large_model_is_refused(tmp_path: Path) -> None:
    with (_models(tmp_path / "models") / "export/model.onnx").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match=r"12\.0 MB; a released model has at most 12 MB"):
        release(tmp_path / "models", tmp_path / "pretrained")


def test_a_model_of_the_sample_is_refused(tmp_path: Path, params_content: dict) -> None:
    params_content["dataset"] = "sample"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params_content))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "src.release"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "drawn faces" in result.stderr
    assert "Traceback" not in result.stderr
