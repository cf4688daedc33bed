"""Send parameters, batch and epoch metrics and the confusion matrix to Weights & Biases.

Online when there is an API key and the server answers, offline otherwise (`wandb sync wandb/offline-run-*` in the
project sends it later), off with WANDB_MODE=disabled. Never prompts and never stops a training: what breaks is
reported once and dropped. What wandb adds by itself (host, user, packages, console) is switched off. wandb's own
Keras callback imports TensorFlow; this one needs Keras only.

DVC and wandb point at each other: the run is named after the DVC experiment, and its config holds the Git revision
and hashes of the data; its id is the key under which DVC's metrics/details/train.json records the training (`run`).
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import psutil
import requests

from src.expressions import EXPRESSIONS
from src.network.state import project_root

_ANSWER_S = 3.0  # a server that takes longer to answer would delay the training
_FINISH_S = 60.0  # how long the end of a training may wait for uploads; WANDB_FINISH_TIMEOUT replaces it
_FLUSH_S = 20.0  # but at least so long: wandb's service writes to disk up to 15 s late (measured with 0.31)


def _git_revision() -> str:
    """The commit that is checked out, or "" outside a repository."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""


def _start(config: dict[str, Any], run_id: str | None) -> Any:
    """A run, offline where it cannot be online. Raises what wandb raises where neither is possible."""
    os.environ.setdefault("OTEL_SDK_DISABLED", "true")  # measures of wandb's own client, which it would send as well
    import wandb
    from wandb.sdk.lib import wbauth

    def start(mode: Literal["online", "offline"]) -> Any:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "facial-expressions"),
            name=os.environ.get("DVC_EXP_NAME") or None,
            mode=mode,
            # DVC removes the copy of the project that an experiment may run in.
            dir=os.environ.get("WANDB_DIR") or project_root(Path.cwd()),
            id=run_id,
            resume="allow" if run_id else None,
            config={**config, "git_revision": _git_revision()},
            settings=wandb.Settings(
                init_timeout=20,
                finish_timeout=0,  # `Tracker.finish` has its own limit, which holds for more
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

    settings = wandb.setup(wandb.Settings(silent=True)).settings
    if settings.mode != "online":
        return start("offline")
    try:
        if not wbauth.authenticate_session(host=settings.base_url, source="the training", prompt=False):
            raise LookupError(f"no API key for {settings.base_url} (`wandb login`, or WANDB_API_KEY)")
        try:
            requests.get(settings.base_url, timeout=_ANSWER_S, stream=True).close()
        except requests.RequestException:
            raise ConnectionError(f"{settings.base_url} does not answer") from None
        return start("online")
    except Exception as error:
        run = start("offline")
        print(f"wandb: {_reason(error)}; this run is kept offline, {_how_to_send(run)} sends it", file=sys.stderr)
        return run


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _how_to_send(run: Any) -> str:
    return f"`wandb sync {Path(run.settings.sync_dir).parent}/*run-*-{run.id}`"


class Tracker(keras.callbacks.Callback):
    """One wandb run for one training.

    config: parameters and data hashes. run_id: the same for the same training, so that one that was killed continues in
    its old run. The run is named after the DVC experiment where there is one.
    """

    def __init__(self, config: dict[str, Any], run_id: str | None = None) -> None:
        super().__init__()
        self.step = 0
        self._run: Any = None
        self._broken = False
        if os.environ.get("WANDB_MODE") != "disabled":
            try:
                self._run = _start(config, run_id)
            except Exception as error:
                print(f"wandb is off for this run: {_reason(error)}", file=sys.stderr)

    def _safely(self, send: Callable[[Any], object]) -> None:
        """Tracking is a convenience: whatever it raises, training continues, and nothing more is sent."""
        if self._run is None or self._broken:
            return
        try:
            send(self._run)
        except Exception as error:
            if not self._broken:
                print(f"wandb: {_reason(error)}; nothing more of this run is logged", file=sys.stderr)
            self._broken = True

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
        import wandb

        self._safely(lambda run: run.log({"faces": wandb.Image(sheet[:, :, ::-1])}, step=self.step))

    def finish(self, summary: dict[str, Any], targets: np.ndarray, predicted: np.ndarray) -> None:
        """Write the final figures and the confusion matrix of the validation faces, and close the run.

        targets, predicted: class indices `(N,)`. Returns after `_FINISH_S` at the latest, whatever the network does.
        """
        if self._run is None:
            return
        import wandb

        confusion = {"y_true": targets.tolist(), "preds": predicted.tolist(), "class_names": list(EXPRESSIONS)}

        def close(run: Any) -> None:
            try:  # a table asks the server, and waits for it
                table = wandb.plot.confusion_matrix(**confusion, title="Confusion matrix (validation)")
                run.log({"confusion": table}, step=self.step + 1)
            finally:
                run.finish()

        self._safely(lambda run: run.log({}, step=self.step, commit=True))  # else the last step waits for a next one
        self._safely(lambda run: run.summary.update(summary))
        self._broken = False  # what was logged before can still be sent
        limit = max(wandb.setup().settings.finish_timeout or _FINISH_S, _FLUSH_S)
        closing = threading.Thread(target=self._safely, args=(close,), daemon=True)
        closing.start()
        closing.join(limit)
        if not closing.is_alive():
            return
        self._broken = True
        lost = "the server has stopped answering and lacks a part of this run"
        print(f"wandb: {lost}: {_how_to_send(self._run)} sends it", file=sys.stderr)
        for process in psutil.Process().children():
            if "wandb-core" in process.name():
                process.kill()  # else the end of this process waits for it
        closing.join(_ANSWER_S)
        with contextlib.suppress(Exception):
            wandb.teardown()
