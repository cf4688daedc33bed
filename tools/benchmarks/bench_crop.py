"""Faces out of ExpW's photos: ours, all cores and shrunk while decoding, against one thread that decodes in full.

    python -m tools.benchmarks.bench_crop [--repeats 3]          about a minute on two cores

All ways cut the same squares to 48 x 48 pixels; the mean absolute difference between the crops is printed, in grey
levels. The photos are those of $FER_REAL_DATA/expw.zip, or of the drawn sample; they are read once before, so that no
way waits for the disk.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from src.datasets.archives import open_tree
from src.datasets.photos import PhotoFolder
from src.preparation import cropping
from src.recognition.crop_face import Box
from tools.benchmarks import baselines, data, measuring

MODULE = "tools.benchmarks.bench_crop"
IMAGE_SIZE, MARGIN = 48, 0.1


def _read_table(folder: Path) -> tuple[list[str], list[Box]]:
    table = pd.read_csv(folder / "table.csv")
    return list(table["photo"]), list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))


def _ours(folder: Path) -> Callable[[], object]:
    photos, boxes = _read_table(folder)
    where = PhotoFolder(open_tree(folder / "photos"), "")
    return lambda: np.save(folder / "ours.npy", cropping.crop_faces(where, photos, boxes, IMAGE_SIZE, MARGIN)[0])


def _ours_one_thread(folder: Path) -> Callable[[], object]:
    photos, boxes = _read_table(folder)
    where = PhotoFolder(open_tree(folder / "photos"), "")

    return lambda: cropping.crop_faces(where, photos, boxes, IMAGE_SIZE, MARGIN, workers=1)


def _baseline(folder: Path) -> Callable[[], object]:
    photos, boxes = _read_table(folder)
    return lambda: np.save(
        folder / "baseline.npy", baselines.crop_one_thread(folder / "photos", photos, boxes, IMAGE_SIZE, MARGIN)
    )


WAYS: dict[str, measuring.Way] = {
    "ours, all cores": _ours,
    "ours, one thread": _ours_one_thread,
    "cv2.imread in full, one thread": _baseline,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cropping of faces.")
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos, table = data.unpack_photos(folder)
        table.to_csv(folder / "table.csv", index=False)
        size = sum(len(path.read_bytes()) for path in photos.iterdir())
        rows = measuring.measure(MODULE, WAYS, folder, repeats)
        title = f"{len(table)} faces in {table['photo'].nunique()} photos, {size / 1e6:.0f} MB, {data.source()}"
        measuring.print_table(title, rows, repeats)
        difference = np.abs(np.load(folder / "ours.npy").astype(int) - np.load(folder / "baseline.npy"))
        per_face = difference.mean(axis=(1, 2))
        print(
            f"mean absolute difference of the crops {difference.mean():.2f} grey levels; "
            f"per face: median {np.median(per_face):.2f}, 99 % below {np.quantile(per_face, 0.99):.2f}"
        )


if __name__ == "__main__":
    if not measuring.run_child(WAYS):
        main()
