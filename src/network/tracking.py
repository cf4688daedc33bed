"""Send parameters, batch and epoch metrics and the confusion matrix to Weights & Biases.

Online when an API key is there and the server answers, offline otherwise (`wandb sync wandb/offline-run-*` sends it
later), off with WANDB_MODE=disabled. Never prompts, and never fails a training: tracking that breaks is reported once
and dropped. wandb's own Keras callback imports TensorFlow; this one only needs Keras.

DVC and wandb point at each other: the run is named after the DVC experiment and its config holds the Git revision and
hashes of the data; its id is the key under which DVC's metrics/train.json records the training (`run`).
"""

import os
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import keras
import numpy as np

from src.expressions import EXPRESSIONS

_SERVER = "https://api.wandb.ai"
_ANSWER_S = 3.0  # a server that takes longer to accept a connection would delay the training


def _has_api_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "api.wandb.ai" in netrc.read_text(encoding="utf-8")
    except OSError:
        return False


def _answers(url: str) -> bool:
    """Whether the server, or the proxy on the way to it, accepts a connection."""
    place = urllib.parse.urlsplit(urllib.request.getproxies().get(urllib.parse.urlsplit(url).scheme, url))
    try:
        socket.create_connection((place.hostname or "", place.port or 443), timeout=_ANSWER_S).close()
    except (OSError, ValueError):
        return False
    return True


def _git_revision() -> str:
    """The commit that is checked out, or "" outside a repository."""
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


class Tracker(keras.callbacks.Callback):
    """One wandb run for one training.

    config: parameters and data hashes. run_id: the same for the same training, so that one that was killed goes on in
    its old run. The run is named after the DVC experiment where there is one.
    """

    def __init__(self, config: dict[str, Any], run_id: str | None = None) -> None:
        super().__init__()
        self.step = 0
        self._run: Any = None
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_api_key() else "offline")
        if mode == "disabled":
            return
        server = os.environ.get("WANDB_BASE_URL", _SERVER)
        if mode == "online" and not _answers(server):
            print(f"wandb: {server} does not answer; this run is kept offline, `wandb sync` sends it", file=sys.stderr)
            mode = "offline"
        try:
            import wandb

            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "facial-expressions"),
                name=os.environ.get("DVC_EXP_NAME") or None,
                mode=mode,  # type: ignore[arg-type]
                id=run_id,
                resume="allow" if run_id else None,
                config={**config, "git_revision": _git_revision()},
                settings=wandb.Settings(silent=True, init_timeout=20),
            )
            self._run.define_metric("epoch/*", step_metric="epoch/epoch")
        except Exception as error:  # tracking is a convenience: whatever it raises, training goes on
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"wandb is off for this run: {reason}", file=sys.stderr)

    def log(self, values: dict[str, Any]) -> None:
        """Send values under the current batch number."""
        if self._run is None:
            return
        try:
            self._run.log(values, step=self.step)
        except Exception as error:
            self._give_up(error)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.step += 1
        self.log({f"batch/{name}": value for name, value in (logs or {}).items()})

    def log_epoch(self, row: dict[str, Any]) -> None:
        """Send one row of the history."""
        self.log({f"epoch/{name}": value for name, value in row.items()})

    def log_sheet(self, sheet: Any) -> None:
        """Send one picture, uint8 `(H, W, 3)` BGR."""
        if self._run is not None:
            import wandb

            self.log({"faces": wandb.Image(sheet[:, :, ::-1])})

    def log_confusion(self, targets: np.ndarray, predicted: np.ndarray) -> None:
        """Send the confusion matrix of the validation faces, as wandb draws it. Both: class indices `(N,)`."""
        if self._run is None:
            return
        try:
            import wandb

            table = wandb.plot.confusion_matrix(
                y_true=targets.tolist(),
                preds=predicted.tolist(),
                class_names=list(EXPRESSIONS),
                title="Confusion matrix (validation)",
            )
            self._run.log({"confusion": table}, step=self.step)
        except Exception as error:
            self._give_up(error)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the final figures and close the run."""
        if self._run is None:
            return
        try:
            self._run.summary.update(summary)
            self._run.finish()
        except Exception as error:
            self._give_up(error)
