"""The data stages against the obvious ways, as found in public projects on this data: seconds, ratio, peak memory.

    python -m tools.benchmarks.bench_data csv            FER2013's official CSV, 35,887 rows, into one array
    python -m tools.benchmarks.bench_data crop           every face out of ExpW's photos, as 48 x 48 pixels
    python -m tools.benchmarks.bench_data smote          67,096 faces, the class counts of the DSPRO2 report; 6 GB

Without a name all of them, ten minutes on two cores. The pictures are those of $FER_REAL_DATA/fer2013.zip and expw.zip,
or of the drawn sample, where times of decoding say less; they are repeated until there are enough. Each way runs in a
process of its own, so that none inherits the memory or the caches of another, and the ways take turns, so that a slow
minute of the machine hits all. It never fails on a time. Columns: docs/benchmarks.md.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE

from src.datasets import expw, fer2013
from src.datasets.archives import open_tree
from src.datasets.photos import PhotoFolder
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.params import IngestExpwParams, IngestFer2013Params, SmoteParams
from src.preparation.cropping import crop_faces
from src.preparation.smote import balance
from src.recognition.crop_face import Box, square_around
from tools.benchmarks.measuring import alone, machine, memory, parser, show

ROOT = Path(__file__).resolve().parents[2]
USAGES = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}  # rows of the official CSV
FER2013_PARAMS = IngestFer2013Params(labels="original", max_bad_fraction=0.02)
SMOTE_COUNTS = dict(zip(EXPRESSIONS, (8624, 4542, 6209, 11858, 12477, 11062, 12324), strict=True))
SMOTE_PARAMS = SmoteParams(enabled=True, neighbors=5, target_fraction=1.0, seed=42)
IMAGE_SIZE, MARGIN = 48, 0.1
Way = Callable[[Path], np.ndarray]


# --- the data ---


def _raw(folder: Path, dataset: str) -> Path:
    """A folder with one data set as downloaded."""
    if "FER_REAL_DATA" not in os.environ:
        return ROOT / "data/raw/sample" / dataset
    target = folder / f"download_{dataset}"
    target.mkdir(exist_ok=True)
    shutil.copyfile(Path(os.environ["FER_REAL_DATA"], f"{dataset}.zip"), target / f"{dataset}.zip")
    return target


def _fer2013_faces(folder: Path) -> FaceSet:
    return fer2013.load(_raw(folder, "fer2013"), FER2013_PARAMS)[0]


def write_csv(folder: Path) -> None:
    """`fer2013/fer2013.csv` with as many rows as the official one."""
    faces = _fer2013_faces(folder)
    images = np.asarray(faces.images).reshape(len(faces), -1)
    (folder / "fer2013").mkdir()
    with (folder / "fer2013/fer2013.csv").open("w", encoding="ascii") as file:
        file.write("emotion,pixels,Usage\n")
        for usage, count in USAGES.items():
            rows = np.flatnonzero(faces.labels["usage"] == usage)[:count]
            lines = [f"{faces.targets[row]},{' '.join(map(str, images[row].tolist()))},{usage}\n" for row in rows]
            file.writelines(lines[number % len(lines)] for number in range(count))


def write_photos(folder: Path) -> None:
    """ExpW's photos in `photos/`, and the checked table of their faces, `table.csv`."""
    raw = _raw(folder, "expw")
    table, photos = expw.load(raw, IngestExpwParams(confidence_min=0, max_bad_fraction=0.05))[0], expw.find(raw).photos
    (folder / "photos").mkdir()
    for name in table["photo"].unique():
        (folder / "photos" / name).write_bytes(photos.read(name))
    table.to_csv(folder / "table.csv", index=False)


def write_faces(folder: Path) -> None:
    """A FaceSet, `faces/`, with the class counts of the report: pictures repeated with shifts of up to 3 pixels."""
    faces, generator = _fer2013_faces(folder), np.random.default_rng(42)
    rows = np.concatenate([
        np.resize(generator.permutation(np.flatnonzero(faces.labels["expression"] == name)), count)
        for name, count in SMOTE_COUNTS.items()
    ])  # fmt: skip
    generator.shuffle(rows)
    padded = np.pad(np.asarray(faces.images), ((0, 0), (3, 3), (3, 3)), mode="edge")
    shifts = generator.integers(0, 7, (len(rows), 2))
    images = np.stack([padded[row, y : y + 48, x : x + 48] for row, (y, x) in zip(rows, shifts, strict=True)])
    names = [f"fer2013/Training_{number:06d}" for number in range(len(rows))]
    labels = faces.labels.iloc[rows].reset_index(drop=True).assign(image_name=names, group=names)
    FaceSet(images, labels).save(folder / "faces")


# --- the ways: from the folder to an array ---


def csv_ours(folder: Path) -> np.ndarray:
    return fer2013.load(folder / "fer2013", FER2013_PARAMS)[0].images


def csv_itertuples(folder: Path) -> np.ndarray:
    table = pd.read_csv(folder / "fer2013/fer2013.csv")
    rows = [np.array(row.pixels.split(), dtype=np.uint8) for row in table.itertuples()]  # type: ignore[union-attr]
    return np.stack(rows).reshape(-1, 48, 48)


def _faces_to_crop(folder: Path) -> tuple[list[str], list[Box]]:
    table = pd.read_csv(folder / "table.csv")
    return list(table["photo"]), list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))


def crop_ours(folder: Path) -> np.ndarray:
    return crop_faces(PhotoFolder(open_tree(folder / "photos"), ""), *_faces_to_crop(folder), IMAGE_SIZE, MARGIN)[0]


def crop_imread(folder: Path) -> np.ndarray:
    """Same square and same repeated edge as ours, so that only decoding and resizing are compared."""
    cv2.setNumThreads(1)
    crops = []
    for name, box in zip(*_faces_to_crop(folder), strict=True):
        grey = cv2.cvtColor(cv2.imread(str(folder / "photos" / name)), cv2.COLOR_BGR2GRAY)  # type: ignore[arg-type]
        left, top, side = square_around(box, MARGIN)
        height, width = grey.shape
        outside = (max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0))
        patch = grey[max(top, 0) : top + side, max(left, 0) : left + side]
        patch = cv2.copyMakeBorder(patch, *outside, borderType=cv2.BORDER_REPLICATE)
        crops.append(cv2.resize(patch, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA))
    return np.stack(crops)


def smote_ours(folder: Path) -> np.ndarray:
    return balance(FaceSet.load(folder / "faces"), SMOTE_PARAMS).images


def smote_imblearn(folder: Path) -> np.ndarray:
    """As in the documentation of imbalanced-learn, on float64 in [0, 1]."""
    faces = FaceSet.load(folder / "faces")
    pixels = np.asarray(faces.images).reshape(len(faces), -1).astype(np.float64) / 255.0
    smote = SMOTE(k_neighbors=SMOTE_PARAMS.neighbors, random_state=SMOTE_PARAMS.seed)
    return np.rint(smote.fit_resample(pixels, faces.targets)[0] * 255).astype(np.uint8).reshape(-1, 48, 48)


# Name -> how the data is made, the ways (ours first), how often each is run.
BENCHMARKS: dict[str, tuple[Callable[[Path], None], dict[str, Way], int]] = {
    "csv": (write_csv, {"ours": csv_ours, "itertuples, split": csv_itertuples}, 3),
    "crop": (write_photos, {"ours, all cores": crop_ours, "cv2.imread in full, one thread": crop_imread}, 3),
    "smote": (write_faces, {"ours, uint8": smote_ours, "imbalanced-learn, float64": smote_imblearn}, 1),
}


# --- measuring ---


def _timed(way: Way, folder: Path, output: Path) -> tuple[float, float]:
    """Seconds without imports, and peak MB."""
    start = time.perf_counter()
    result = way(folder)
    seconds, peak = time.perf_counter() - start, memory("VmHWM")
    np.save(output, result)
    return seconds, peak


def compare(name: str, folder: Path) -> None:
    """Print a table of the ways of one benchmark, and how far their results agree with ours."""
    prepare, ways, repeats = BENCHMARKS[name]
    alone(prepare, folder)
    outputs = {way: folder / f"{number}.npy" for number, way in enumerate(ways)}
    runs = [{way: alone(_timed, ways[way], folder, outputs[way]) for way in ways} for _ in range(repeats)]
    results = {way: np.load(output, mmap_mode="r") for way, output in outputs.items()}
    ours = next(iter(ways))
    seconds = {way: statistics.median(run[way][0] for run in runs) for way in ways}
    rows = [
        {
            f"{name}, {len(results[ours]):,} faces": way,
            "seconds": seconds[way],
            "times ours": seconds[way] / seconds[ours],
            "peak MB": max(run[way][1] for run in runs),
            "grey levels from ours": np.mean(
                [np.abs(a.astype(int) - b).mean() for a, b in zip(results[way], results[ours], strict=True)]
            ),
        }
        for way in ways
    ]
    show(rows, decimals=2)
    print(f"median of {repeats}, largest peak", flush=True)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    chosen = options.parse_args().names or list(BENCHMARKS)
    if unknown := sorted(set(chosen) - set(BENCHMARKS)):
        options.error(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    data = "real pictures" if "FER_REAL_DATA" in os.environ else "drawn sample (FER_REAL_DATA is not set)"
    print(f"{machine()}; {data}")
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, Path(folder))


if __name__ == "__main__":
    main()
