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

import matplotlib
import numpy as np
import pytest
import wandb
from wandb.proto import wandb_internal_pb2
from wandb.sdk.lib import wbauth

from src.network.wandb_log import Tracker
from tests.conftest import ROOT, RunStage
from tests.test_bad_input import prepare
from tests.wandb_server import WandbServer


def train() -> None:
    """What a training of one epoch of three batches reports."""
    tracker = Tracker({"train": {"epochs": 1}, "data": {"train": "0123"}}, run_id="a1b2")
    for batch in range(3):
        tracker.on_train_batch_end(batch, {"loss": 1.0 + batch})
    tracker.log_epoch({"epoch": 1, "val_accuracy": 0.5, "learning_rate": 0.01})
    tracker.finish({"accuracy": 0.5}, np.array([0, 1, 3]), np.array([0, 3, 3]))
    wandb.teardown()  # as at the end of a process


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody without an account or a key, in an empty folder."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())  # building a font cache takes its time
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    wbauth.unauthenticate_session(update_settings=False)
    wandb.teardown()


def train_in_process(stdin: int = subprocess.DEVNULL) -> str:
    """The same in a process of its own, which must end; its stderr."""
    code = "from tests.test_wandb_log import train; train(); print('trained')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, stdin=stdin, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("trained")
    return result.stderr


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


def offline_runs(folder: Path) -> list[Path]:
    return list((folder / "wandb").glob("offline-run-*/*.wandb"))


def check_offline_run(records: list[Any]) -> None:
    """Every batch, the epoch, the summary."""
    history: dict[str, list[object]] = {}
    for record in records:
        for item in record.history.item:
            history.setdefault(item.key or "/".join(item.nested_key), []).append(json.loads(item.value_json))
    assert history["batch/loss"] == [1.0, 2.0, 3.0]
    assert history["epoch/val_accuracy"] == [0.5]
    assert history["epoch/learning_rate"] == [0.01]
    summary = {item.key: json.loads(item.value_json) for record in records for item in record.summary.update}
    assert summary["accuracy"] == 0.5


def test_offline_run_without_an_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back; with parameters, data hashes, Git revision, confusion matrix. Of an experiment in a copy of the
    project, which DVC removes at its end, the run is kept in the project."""
    subprocess.run(["git", "init", "-q"], check=True)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    monkeypatch.setenv("DVC_EXP_NAME", "named-run")
    copy = tmp_path / ".dvc/tmp/exps/tmpa1b2"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    train()
    assert not (copy / "wandb").exists()
    records = list(read_offline_run(*offline_runs(tmp_path)))
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (runs[0].run_id, runs[0].display_name) == ("a1b2", "named-run")
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["train"] == {"epochs": 1}
    assert config["data"] == {"train": "0123"}
    assert config["git_revision"] == head
    assert list((tmp_path / "wandb").rglob("confusion*.table.json"))
    check_offline_run(records)


def test_disabled_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    train()
    assert not (tmp_path / "wandb").exists()


def test_faces_are_logged_where_asked_for_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_stage: RunStage
) -> None:
    sheets = []
    monkeypatch.setattr(Tracker, "log_sheet", lambda tracker, sheet: sheets.append(sheet))
    monkeypatch.setattr("stages.train.train_network", lambda *_: sys.exit(3))  # what follows does not matter here
    monkeypatch.setenv("WANDB_MODE", "disabled")
    prepare(tmp_path, "train")
    for wanted in ("", "true"):
        monkeypatch.setenv("FER_LOG_IMAGES", wanted)
        assert run_stage("train").returncode == 3
        assert len(sheets) == (wanted == "true")


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Somebody who has a key for it."""
    server = WandbServer(**getattr(request, "param", {}))
    for name, value in {"BASE_URL": server.address, "API_KEY": "x" * 40, "FINISH_TIMEOUT": "3"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield server
    server.close()


def test_online_with_a_key(tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run arrives: name, parameters and data hashes, every batch and epoch, the confusion matrix, the summary."""
    monkeypatch.setenv("DVC_EXP_NAME", "named-run")
    train()
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


@pytest.mark.parametrize("server", [{}, {"silent": True}], indirect=True, ids=["unreachable", "silent"])
def test_server_that_does_not_answer(tmp_path: Path, server: WandbServer, capfd: pytest.CaptureFixture[str]) -> None:
    """The run is kept offline at once, and the message says how to send it."""
    if not server.silent:
        server.close()
    train()
    message = f"{server.address} does not answer; this run is kept offline, `wandb sync {tmp_path}/wandb/*run-*-a1b2`"
    assert message in capfd.readouterr().err
    assert len(offline_runs(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("server", [{"lose_after": 4}, {"lose_after": 6}], indirect=True, ids=["early", "later"])
def test_network_lost_in_the_middle(tmp_path: Path, server: WandbServer) -> None:
    """The training ends; what was logged is on disk, and the message says how to send it."""
    assert f"`wandb sync {tmp_path}/wandb/*run-*-a1b2` sends it" in train_in_process()
    (file,) = (tmp_path / "wandb").glob("run-*-a1b2/*.wandb")
    check_offline_run(list(read_offline_run(file)))


@pytest.mark.slow
def test_without_a_key_nobody_is_asked(tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal, where wandb itself asks for a key and waits."""
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "online")
    terminal, ours = pty.openpty()
    try:
        assert f"no API key for {server.address}" in train_in_process(stdin=ours)
    finally:
        os.close(terminal)
        os.close(ours)
    assert len(offline_runs(tmp_path)) == 1


@pytest.mark.parametrize("found", [True, False], ids=["this server", "another"])
def test_key_of_wandb_login(tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    """In ~/.netrc, for each server its own."""
    monkeypatch.delenv("WANDB_API_KEY")
    host = server.address.removeprefix("http://") if found else "api.wandb.ai"
    (tmp_path / ".netrc").write_text(f"machine {host}\n  login user\n  password {'x' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    train()
    assert len(offline_runs(tmp_path)) == (0 if found else 1)
    assert bool(list((tmp_path / "wandb").glob("run-*/*.wandb"))) == found


def test_trouble_does_not_stop_a_training(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A malformed key, and what nobody has thought of."""
    monkeypatch.setenv("WANDB_API_KEY", "short")
    train()
    assert "this run is kept offline" in capfd.readouterr().err
    assert len(offline_runs(tmp_path)) == 1
    monkeypatch.setattr(wandb, "init", "not to be called")
    train()
    assert "wandb is off for this run: 'str' object is not callable" in capfd.readouterr().err
