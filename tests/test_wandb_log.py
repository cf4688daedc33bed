"""Tracking works without an account, never asks for one, and never stops a training."""

import json
import os
import pty
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from tests.conftest import ROOT
from tests.wandb_server import WandbServer

CODE = """
import numpy as np
from src.network.wandb_log import Tracker
tracker = Tracker({"train": {"epochs": 1}, "data": {"train": "0123"}}, run_id="a1b2")
for batch in range(3):
    tracker.on_train_batch_end(batch, {"loss": 1.0 + batch})
tracker.log_epoch({"epoch": 1, "val_accuracy": 0.5, "learning_rate": 0.01})
tracker.finish({"accuracy": 0.5}, np.array([0, 1, 3]), np.array([0, 3, 3]))
print("trained")
"""


def _run(folder: Path, stdin: int = subprocess.DEVNULL, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), "HOME": str(folder), **variables},
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def read_offline_run(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: 7 bytes of header, then LevelDB's log format in blocks of 32 KiB (checksum 4 bytes,
    length 2, kind 1: whole, first, middle or last part; then the part)."""
    content, position, parts = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            parts = b""
            yield record


def _history(records: list[Any]) -> dict[str, list[object]]:
    """Every value that was logged, by name, in order."""
    history: dict[str, list[object]] = {}
    for record in records:
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            history.setdefault(key, []).append(json.loads(item.value_json))
    return history


def test_offline_run_without_an_account(tmp_path: Path) -> None:
    """Read back: parameters, data hashes, Git revision, every batch, the epoch, learning rate, confusion matrix."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "one"], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    result = _run(tmp_path, DVC_EXP_NAME="named-run")
    assert result.returncode == 0, result.stderr
    records = list(read_offline_run(next((tmp_path / "wandb").glob("offline-run-*/*.wandb"))))
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (runs[0].run_id, runs[0].display_name) == ("a1b2", "named-run")
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["train"] == {"epochs": 1}
    assert config["data"] == {"train": "0123"}
    assert config["git_revision"] == head
    history = _history(records)
    assert history["batch/loss"] == [1.0, 2.0, 3.0]
    assert history["epoch/val_accuracy"] == [0.5]
    assert history["epoch/learning_rate"] == [0.01]
    assert any("confusion" in key for key in history)
    assert result.stdout.strip().endswith("trained")


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    assert _run(tmp_path, WANDB_MODE="disabled").stdout.strip() == "trained"
    assert not (tmp_path / "wandb").exists()


def test_unreachable_server_does_not_stop_training(tmp_path: Path) -> None:
    result = _run(tmp_path, WANDB_API_KEY="x" * 40, WANDB_BASE_URL="http://127.0.0.1:9")
    assert result.returncode == 0
    assert result.stdout.strip().endswith("trained")
    assert "127.0.0.1:9 does not answer; this run is kept offline" in result.stderr
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 1


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[WandbServer]:
    server = WandbServer(**getattr(request, "param", {}))
    yield server
    server.close()


def _run_online(folder: Path, server: WandbServer, key: str = "x" * 40) -> subprocess.CompletedProcess[str]:
    variables = {"WANDB_API_KEY": key, "WANDB_BASE_URL": server.address, "WANDB_FINISH_TIMEOUT": "3"}
    result = _run(folder, subprocess.DEVNULL, DVC_EXP_NAME="named-run", **variables)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("trained")
    return result


def test_online_with_a_key(tmp_path: Path, server: WandbServer) -> None:
    """The run arrives: name, parameters and data hashes, every batch and epoch, the confusion matrix, the summary."""
    _run_online(tmp_path, server)
    (created,) = [json.loads(body) for _, body in server.requests if "named-run" in body and "UpsertBucket" in body][:1]
    config = json.loads(created["variables"]["config"])
    assert (created["variables"]["name"], created["variables"]["displayName"]) == ("a1b2", "named-run")
    assert config["data"]["value"] == {"train": "0123"}
    assert config["train"]["value"] == {"epochs": 1}
    rows = [json.loads(row) for row in _history_rows(server)]
    assert [row["batch/loss"] for row in rows if "batch/loss" in row] == [1.0, 2.0, 3.0]
    assert [row["epoch/val_accuracy"] for row in rows if "epoch/val_accuracy" in row] == [0.5]
    assert '["surprise","surprise",' in server.sent("/upload/media/table/")
    assert json.loads(server.sent("/upload/wandb-summary.json"))["accuracy"] == 0.5
    assert created["variables"]["host"] is created["variables"]["repo"] is None
    sent = " ".join(body for _, body in server.requests)
    for unasked in ("tensorflow==", sys.executable, str(tmp_path)):  # packages, paths
        assert unasked not in sent


def _history_rows(server: WandbServer) -> Iterator[str]:
    for path, body in server.requests:
        if path.endswith("/file_stream"):
            yield from json.loads(body).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])


@pytest.mark.parametrize("server", [{"silent": True}], indirect=True)
def test_server_that_never_answers_does_not_stop_training(tmp_path: Path, server: WandbServer) -> None:
    assert "does not answer; this run is kept offline" in _run_online(tmp_path, server).stderr
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 1


@pytest.mark.parametrize("server", [{"lose_after": 4}, {"lose_after": 6}], indirect=True, ids=["early", "later"])
def test_network_lost_in_the_middle_does_not_hold_up_training(tmp_path: Path, server: WandbServer) -> None:
    """What was logged is on disk, and the message says how to send it."""
    result = _run_online(tmp_path, server)
    assert f"`wandb sync {tmp_path}/wandb/*run-*-a1b2` sends it" in result.stderr
    (file,) = (tmp_path / "wandb").glob("run-*-a1b2/*.wandb")
    records = list(read_offline_run(file))
    history = _history(records)
    assert history["batch/loss"] == [1.0, 2.0, 3.0]
    assert history["epoch/val_accuracy"] == [0.5]
    summary = {item.key: json.loads(item.value_json) for record in records for item in record.summary.update}
    assert summary["accuracy"] == 0.5


@pytest.mark.parametrize("folder", [".dvc/tmp/exps/standalone/tmpa1b2", ".dvc/tmp/exps/tmpa1b2"])
def test_an_experiment_in_a_copy_of_the_project_keeps_its_run_in_the_project(tmp_path: Path, folder: str) -> None:
    """DVC removes the copy at the end of the experiment."""
    copy = tmp_path / folder
    copy.mkdir(parents=True)
    assert _run(copy).returncode == 0
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 1
    assert not (copy / "wandb").exists()


def test_online_without_a_key_asks_nobody(tmp_path: Path, server: WandbServer) -> None:
    """At a terminal, where wandb itself asks for a key and waits."""
    terminal, ours = pty.openpty()
    try:
        result = _run(tmp_path, stdin=ours, WANDB_MODE="online", WANDB_BASE_URL=server.address)
    finally:
        os.close(terminal)
        os.close(ours)
    assert result.stdout.strip().endswith("trained")
    assert f"no API key for {server.address}" in result.stderr
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 1


@pytest.mark.parametrize("found", [True, False], ids=["this server", "another"])
def test_key_of_wandb_login(tmp_path: Path, server: WandbServer, found: bool) -> None:
    """In ~/.netrc, for each server its own."""
    host = server.address.removeprefix("http://") if found else "api.wandb.ai"
    (tmp_path / ".netrc").write_text(f"machine {host}\n  login user\n  password {'x' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    result = _run(tmp_path, WANDB_BASE_URL=server.address, WANDB_FINISH_TIMEOUT="3")
    assert result.stdout.strip().endswith("trained")
    assert bool(list((tmp_path / "wandb").glob("run-*/*.wandb"))) == found


def test_malformed_key_is_kept_offline(tmp_path: Path, server: WandbServer) -> None:
    assert "this run is kept offline" in _run_online(tmp_path, server, key="short").stderr
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 1
