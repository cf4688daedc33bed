"""SMOTE at the size of the reference, 67,096 faces of 48 x 48: ours against plain imbalanced-learn.

    python -m tools.benchmarks.bench_smote [--repeats 1]          about five minutes and 6 GB on two cores

Class counts are those of the DSPRO2 report after its undersampling. The rows are real faces, repeated with shifts of
up to three pixels ($FER_REAL_DATA/fer2013.zip), or drawn ones.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.params import SmoteParams
from src.preparation.smote import balance
from tools.benchmarks import baselines, data, measuring

MODULE = "tools.benchmarks.bench_smote"
COUNTS = dict(zip(EXPRESSIONS, (8624, 4542, 6209, 11858, 12477, 11062, 12324), strict=True))
PARAMS = SmoteParams(enabled=True, neighbors=5, target_fraction=1.0, seed=42)


def _ours(folder: Path) -> Callable[[], object]:
    def work() -> None:
        np.save(folder / "ours.npy", balance(FaceSet.load(folder / "faces"), PARAMS).images)

    return work


def _baseline(folder: Path) -> Callable[[], object]:
    def work() -> None:
        faces = FaceSet.load(folder / "faces")
        pixels = baselines.smote_float64(np.asarray(faces.images), faces.targets, PARAMS.neighbors, PARAMS.seed)
        np.save(folder / "baseline.npy", np.rint(pixels * 255).astype(np.uint8).reshape(-1, 48, 48))

    return work


WAYS: dict[str, measuring.Way] = {"ours, uint8 to uint8": _ours, "imbalanced-learn, float64": _baseline}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure SMOTE.")
    parser.add_argument("--repeats", type=int, default=1)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.shifted_faces(data.load_faces(folder), COUNTS).save(folder / "faces")
        rows = measuring.measure(MODULE, WAYS, folder, repeats)
        measuring.print_table(f"SMOTE, {sum(COUNTS.values()):,} faces, {data.source()}", rows, repeats)
        ours, baseline = np.load(folder / "ours.npy", mmap_mode="r"), np.load(folder / "baseline.npy", mmap_mode="r")
        start = sum(COUNTS.values())
        same = np.mean([np.array_equal(a, b) for a, b in zip(ours[start:], baseline[start:], strict=True)])
        print(f"{len(ours) - start:,} synthetic faces, of which {same:.2%} are the same to the byte")


if __name__ == "__main__":
    if not measuring.run_child(WAYS):
        main()
