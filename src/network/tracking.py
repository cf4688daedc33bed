"""Send parameters, batch and epoch metrics to Weights & Biases.

Online when an API key is there, offline otherwise (`wandb sync wandb/offline-run-*` sends it later), off with
WANDB_MODE=disabled. Never prompts, and never fails a training: tracking that breaks is reported once and dropped.
wandb's own Keras callback imports TensorFlow; this one only needs Keras.
"""

import os
import sys
from pathlib import Path
from typing import Any

import keras


def _has_api_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "api.wandb.ai" in netrc.read_text(encoding="utf-8")
    except OSError:
        return False


class Tracker(keras.callbacks.Callback):
    """One wandb run for one training.

    config: parameters and data hashes. The run is named after the DVC experiment where there is one.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.step = 0
        self._run: Any = None
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_api_key() else "offline")
        if mode == "disabled":
            return
        try:
            import wandb

            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "facial-expressions"),
                name=os.environ.get("DVC_EXP_NAME") or None,
                mode=mode,  # type: ignore[arg-type]
                config=config,
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

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the final figures and close the run."""
        if self._run is None:
            return
        try:
            self._run.summary.update(summary)
            self._run.finish()
        except Exception as error:
            self._give_up(error)
