"""Send parameters, batch and epoch metrics and the confusion matrix to Weights & Biases.

Online when an API key is there and the server answers, offline otherwise (`wandb sync wandb/offline-run-*` in the
project sends it later), off with WANDB_MODE=disabled. Never prompts, and never fails a training: tracking that breaks
is reported once and dropped. What wandb adds by itself (host, user, packages, console) is switched off. wandb's own
Keras callback imports TensorFlow; this one only needs Keras.

DVC and wandb point at each other: the run is named after the DVC experiment and its config holds the Git revision and
hashes of the data; its id is the key under which DVC's metrics/train.json records the training (`run`).
"""

import contextlib
import http.client
import netrc
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil

from src.expressions import EXPRESSIONS
from src.network.state import project_root

_SERVER = "https://api.wandb.ai"
_ANSWER_S = 3.0  # a server that takes longer to answer would delay the training
_FINISH_S = 60.0  # how long the end of a training may wait for uploads
_GRACE_S = 5.0  # and then for wandb to notice
_FLUSH_S = 20.0  # wandb's service holds back what it writes to disk for up to 15 s (measured with 0.31)


def _has_api_key(server: str) -> bool:
    """Whether the environment, or the file that `wandb login` writes, has a key for this server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(urllib.parse.urlsplit(server).netloc) is not None
    except (OSError, ValueError, netrc.NetrcParseError):
        return False


def _folder() -> Path:
    """Where runs are kept: DVC removes the copy of the project that an experiment may run in."""
    return Path(os.environ.get("WANDB_DIR") or project_root(Path.cwd()))


def _how_to_send(runs: str) -> str:
    folder = _folder()
    return f"`wandb sync {runs if folder == Path.cwd() else folder / runs}`"


def _answers(url: str) -> bool:
    """Whether the server, or a proxy on the way to it, answers with anything at all."""
    try:
        urllib.request.urlopen(url, timeout=_ANSWER_S).close()
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _git_revision() -> str:
    """The commit that is checked out, or "" outside a repository."""
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _finish_seconds() -> float:
    try:
        return float(os.environ.get("WANDB_FINISH_TIMEOUT", _FINISH_S))
    except ValueError:
        return _FINISH_S


def _start(config: dict[str, Any], run_id: str | None, mode: Any) -> Any:
    os.environ.setdefault("OTEL_SDK_DISABLED", "true")  # measures of wandb's own client, which it would send as well
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "facial-expressions"),
        name=os.environ.get("DVC_EXP_NAME") or None,
        mode=mode,
        dir=_folder(),
        id=run_id,
        resume="allow" if run_id else None,
        config={**config, "git_revision": _git_revision()},
        settings=wandb.Settings(
            silent=True,
            init_timeout=20,
            finish_timeout=_finish_seconds(),  # without a limit it waits for ever
            finish_timeout_raises=True,
            console="off",
            disable_git=True,  # it would send the remote's address and uncommitted changes; the commit is in config
            disable_code=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_save_requirements=False,
        ),
    )
    run.define_metric("epoch/*", step_metric="epoch/epoch")
    return run


def _finish(run: Any, last: Callable[[], object]) -> None:
    """Log the last things and close the run; return after `_finish_seconds`, or `_FLUSH_S`, whatever happens.

    wandb's own limit holds neither for a table, which asks the server, nor for some uploads, so that its service may
    have to be stopped from here. What was logged before is on disk by then.
    """
    import wandb

    failures: list[BaseException] = []

    def close() -> None:
        try:
            last()
            run.finish()
        except BaseException as error:
            failures.append(error)

    on_disk = time.monotonic() + _FLUSH_S
    thread = threading.Thread(target=close, daemon=True)
    thread.start()
    thread.join(max(_finish_seconds() + _GRACE_S, _FLUSH_S))
    stuck = thread.is_alive()
    lost = stuck or any(isinstance(error, TimeoutError) for error in failures)
    if lost:
        time.sleep(max(0.0, on_disk - time.monotonic()))
    if stuck:
        for process in psutil.Process().children():
            if "wandb-core" in process.name():
                process.kill()
        thread.join(_GRACE_S)
        with contextlib.suppress(Exception):  # else it finds at the end of this process that its service has gone
            wandb.teardown()
    if lost:
        print(
            "wandb: the server has stopped answering and lacks a part of this run: "
            f"{_how_to_send(f'wandb/run-*-{run.id}')} sends it",
            file=sys.stderr,
        )
    elif failures:
        raise failures[0]


class Tracker(keras.callbacks.Callback):
    """One wandb run for one training.

    config: parameters and data hashes. run_id: the same for the same training, so that one that was killed goes on in
    its old run. The run is named after the DVC experiment where there is one.
    """

    def __init__(self, config: dict[str, Any], run_id: str | None = None) -> None:
        super().__init__()
        self.step = 0
        self._run: Any = None
        self._broken = False
        server = os.environ.get("WANDB_BASE_URL") or _SERVER
        has_key = _has_api_key(server)
        mode = os.environ.get("WANDB_MODE") or ("online" if has_key else "offline")
        if mode == "disabled":
            return
        kept = f"this run is kept offline, {_how_to_send('wandb/offline-run-*')} sends it"
        if mode == "online" and not has_key:  # wandb would ask for one, and wait
            print(f"wandb: no API key for {server} (`wandb login`, or WANDB_API_KEY); {kept}", file=sys.stderr)
            mode = "offline"
        if mode == "online" and not _answers(server):
            print(f"wandb: {server} does not answer; {kept}", file=sys.stderr)
            mode = "offline"
        if mode == "online":
            try:
                self._run = _start(config, run_id, mode)
                return
            except Exception as error:
                print(f"wandb: {_reason(error)}; {kept}", file=sys.stderr)
                mode = "offline"
        try:
            self._run = _start(config, run_id, mode)
        except Exception as error:
            print(f"wandb is off for this run: {_reason(error)}", file=sys.stderr)

    def _safely(self, send: Callable[[Any], object]) -> None:
        """Tracking is a convenience: whatever it raises, training goes on, and nothing more is sent."""
        if self._run is None or self._broken:
            return
        try:
            send(self._run)
        except Exception as error:
            self._broken = True
            print(f"wandb: {_reason(error)}; nothing more of this run is logged", file=sys.stderr)

    def log(self, values: dict[str, Any]) -> None:
        """Send values under the current batch number."""
        self._safely(lambda run: run.log(values, step=self.step))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.step += 1
        self.log({f"batch/{name}": value for name, value in (logs or {}).items()})

    def log_epoch(self, row: dict[str, Any]) -> None:
        """Send one row of the history."""
        self.log({f"epoch/{name}": value for name, value in row.items()})

    def log_sheet(self, sheet: Any) -> None:
        """Send one picture, uint8 `(H, W, 3)` BGR."""

        def send(run: Any) -> None:
            import wandb

            run.log({"faces": wandb.Image(sheet[:, :, ::-1])}, step=self.step)

        self._safely(send)

    def finish(self, summary: dict[str, Any], targets: np.ndarray, predicted: np.ndarray) -> None:
        """Write the final figures and the confusion matrix of the validation faces, and close the run.

        targets, predicted: class indices `(N,)`.
        """

        def log_confusion() -> None:
            import wandb

            table = wandb.plot.confusion_matrix(
                y_true=targets.tolist(),
                preds=predicted.tolist(),
                class_names=list(EXPRESSIONS),
                title="Confusion matrix (validation)",
            )
            self.log({"confusion": table})

        self._safely(lambda run: run.log({}, step=self.step, commit=True))  # else the last step waits for a next one
        self._safely(lambda run: run.summary.update(summary))
        self._broken = False  # what was logged before can still be sent
        self.step += 1
        self._safely(lambda run: _finish(run, log_confusion))
