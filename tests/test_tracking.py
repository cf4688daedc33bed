"""Tracking works without an account, never asks for one, and never stops a training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CODE = """
from src.network.tracking import Tracker
tracker = Tracker({"train": {"epochs": 1}})
for batch in range(3):
    tracker.on_train_batch_end(batch, {"loss": 1.0})
tracker.log_epoch({"epoch": 1, "val_accuracy": 0.5})
tracker.finish({"accuracy": 0.5})
print("trained")
"""


def _run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), "HOME": str(folder), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_offline_without_an_account(tmp_path: Path) -> None:
    result = _run(tmp_path, DVC_EXP_NAME="named-run")
    assert result.stdout.strip().endswith("trained"), result.stderr
    runs = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 1
    assert b"named-run" in runs[0].read_bytes()
    assert b"val_accuracy" in runs[0].read_bytes()


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    assert _run(tmp_path, WANDB_MODE="disabled").stdout.strip() == "trained"
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("key", ["x" * 40, "short"], ids=["unreachable server", "malformed key"])
def test_trouble_with_the_server_does_not_stop_training(tmp_path: Path, key: str) -> None:
    result = _run(tmp_path, WANDB_API_KEY=key, WANDB_BASE_URL="http://127.0.0.1:9")
    assert result.returncode == 0
    assert result.stdout.strip().endswith("trained")
