"""What goes to pretrained/: whole, small enough for Git, never a model of drawn faces."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.evaluation.model_card import SAMPLE_SENTENCE, file_digest
from src.recognition.classifier import VARIANTS
from tests.conftest import ROOT
from tools.release import FILES, MAX_BYTES, WEIGHTS, release


def _models(folder: Path) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / WEIGHTS).parent.mkdir(exist_ok=True)
    np.savez(folder / WEIGHTS, np.arange(3, dtype=np.float32))
    _describe(folder)
    return folder


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True)


def _describe(models: Path, text: str = "Model card") -> None:
    digests = [file_digest(path) for path in sorted((models / "export").iterdir())]
    (models / "model_card.md").write_text(f"{text}: {' '.join(digests)}")


def test_release_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained/old").write_text("old")
    release(_models(tmp_path / "models"), tmp_path / "pretrained")
    assert sorted(path.name for path in (tmp_path / "pretrained").iterdir()) == [
        "model.onnx", "model.tflite", "model_card.md", "network.npz",
    ]  # fmt: skip
    with np.load(tmp_path / "pretrained/network.npz") as weights:
        assert weights["arr_0"].dtype == np.float16
        assert weights["arr_0"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", VARIANTS.values())
def test_a_variant_goes_along(tmp_path: Path, name: str) -> None:
    models = _models(tmp_path / "models")
    (models / "export" / name).write_text("small")
    _describe(models)
    release(models, tmp_path / "pretrained")
    assert (tmp_path / "pretrained" / name).read_text() == "small"


@pytest.mark.parametrize("missing", [*FILES, WEIGHTS])
def test_missing_file_keeps_the_old_release(tmp_path: Path, missing: str) -> None:
    release(_models(tmp_path / "models"), tmp_path / "pretrained")
    (tmp_path / "models" / missing).unlink()
    with pytest.raises(UserError, match="dvc repro"):
        release(tmp_path / "models", tmp_path / "pretrained")
    assert len(list((tmp_path / "pretrained").iterdir())) == 4


def test_a_large_model_is_refused(tmp_path: Path) -> None:
    with (_models(tmp_path / "models") / "export/model.onnx").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    _describe(tmp_path / "models")
    with pytest.raises(UserError, match=r"12\.0 MB; a released model has at most 12 MB"):
        release(tmp_path / "models", tmp_path / "pretrained")


def test_a_model_of_the_sample_is_refused(tmp_path: Path) -> None:
    """Whatever params.yaml says by then."""
    _describe(_models(tmp_path / "models"), SAMPLE_SENTENCE)
    result = _run(tmp_path, "tools.release")
    assert result.returncode == 1
    assert "drawn faces" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", *VARIANTS.values()])
def test_a_card_of_another_model_is_refused(tmp_path: Path, name: str) -> None:
    """As after a kill between export and evaluate."""
    models = _models(tmp_path / "models")
    (models / "export" / name).write_text("exported anew")
    with pytest.raises(UserError, match=r"was written for another .*dvc repro"):
        release(models, tmp_path / "pretrained")
    assert not (tmp_path / "pretrained").exists()


@pytest.mark.parametrize("module", ["tools.release", "tools.demo"])
def test_help_does_nothing(tmp_path: Path, module: str) -> None:
    result = _run(tmp_path, module, "--help")
    assert result.returncode == 0
    assert f"python -m {module}" in result.stdout
    assert not list(tmp_path.iterdir())
