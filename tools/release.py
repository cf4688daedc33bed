"""Copy the current model and its card from models/ to pretrained/, which is in Git.

`make release`, or `python -m tools.release`. The weights go along in half precision, for trainings that start from
them. Raises UserError when there is no model, when it is over 12 MB, when it is not the one that the card describes, or
when it is a model of the drawn sample.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from src.errors import UserError, run_program
from src.evaluation.model_card import SAMPLE_SENTENCE, file_digest
from src.recognition.classifier import VARIANTS
from src.storage import replace_directory

MAX_BYTES = 12_000_000
CARD = "model_card.md"
FILES = ("export/model.onnx", "export/model.tflite", CARD)
WEIGHTS = "train/network.npz"


def release(models: Path, pretrained: Path) -> None:
    """Replace `pretrained` by the exported model and card of `models`."""
    for name in (*FILES, WEIGHTS):
        if not (models / name).is_file():
            raise UserError(f"{models / name} is missing. Make it with `dvc repro`, or fetch it with `dvc pull`.")
    card = (models / CARD).read_text(encoding="utf-8")
    if SAMPLE_SENTENCE in card:
        raise UserError("models/ holds a model of drawn faces, which is not released. `dvc repro` on real data first.")
    names = [*FILES, *(f"export/{name}" for name in VARIANTS.values() if (models / "export" / name).is_file())]
    for name in names:
        if name != CARD and file_digest(models / name) not in card:
            raise UserError(
                f"{models / CARD} was written for another {models / name}. Run `dvc repro` to its end, so that the "
                "model is evaluated, and release then."
            )
    size = (models / "export/model.onnx").stat().st_size
    if size > MAX_BYTES:
        raise UserError(
            f"model.onnx has {size / 1e6:.1f} MB; a released model has at most {MAX_BYTES / 1e6:.0f} MB, since it is "
            "in Git. Release a smaller backbone (train.backbone=compact), or share this one through the DVC remote."
        )
    with replace_directory(pretrained) as partial:
        for name in names:
            shutil.copyfile(models / name, partial / Path(name).name)
        with np.load(models / WEIGHTS) as weights:
            np.savez(
                partial / Path(WEIGHTS).name, **{name: array.astype(np.float16) for name, array in weights.items()}
            )


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    release(Path("models"), Path("pretrained"))
    print("pretrained/ now holds the current model; commit it with the dvc.lock and metrics it belongs to")


if __name__ == "__main__":
    run_program(main)
