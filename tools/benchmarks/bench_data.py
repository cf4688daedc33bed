"""The data stages against the obvious ways, as found in public projects on this data: seconds, ratio, peak memory.

    python -m tools.benchmarks.bench_data csv            FER2013's official CSV, 35,887 rows, into one array
    python -m tools.benchmarks.bench_data crop           every face out of ExpW's photos, as 48 x 48 pixels
    python -m tools.benchmarks.bench_data smote          67,096 faces, the class counts of the DSPRO2 report; 6 GB
    python -m tools.benchmarks.bench_data full_size      all data stages, 127,680 faces; 2 GB of memory, 3 GB of disk

Without a name all of them, a quarter of an hour on two cores. The pictures are those of $FER_REAL_DATA/fer2013.zip and
expw.zip, or of the drawn sample, where times of decoding and of finding copies say less; they are repeated until there
are enough. Each way runs in a process of its own, so that none inherits the memory or the caches of another, and the
ways take turns, so that a slow minute of the machine hits all. It never fails on a time. Columns: docs/benchmarks.md.
"""

import argparse
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml
from imblearn.over_sampling import SMOTE
from tabulate import tabulate

from src.datasets import expw, fer2013
from src.datasets.archives import open_tree
from src.datasets.photos import PhotoFolder
from src.expressions import CODE, EXPRESSIONS
from src.faceset import FaceSet
from src.params import IngestExpwParams, IngestFer2013Params, SmoteParams
from src.preparation.cropping import crop_faces
from src.preparation.smote import balance
from src.recognition.crop_face import Box, square_around

ROOT = Path(__file__).resolve().parents[2]
USAGES = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}  # rows of the official CSV
FER2013_PARAMS = IngestFer2013Params(labels="original", max_bad_fraction=0.02)
SMOTE_COUNTS = dict(zip(EXPRESSIONS, (8624, 4542, 6209, 11858, 12477, 11062, 12324), strict=True))
SMOTE_PARAMS = SmoteParams(enabled=True, neighbors=5, target_fraction=1.0, seed=42)
NUM_EXPW_FACES = 91_793
IMAGE_SIZE, MARGIN = 48, 0.1
STAGES = ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote")
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


def write_full_size(folder: Path) -> None:
    """Both data sets at the field's full size in `data/raw/full`, and params.yaml.

    Photos are repeated under new names. In the copies each box is moved by up to half its side and scaled by .7 to 1.4:
    with the same crops again and again, finding copies would be unrealistically quick.
    """
    write_csv(folder)
    write_photos(folder)
    raw = folder / "data/raw/full"
    (raw / "expw/origin").mkdir(parents=True)
    (folder / "fer2013").rename(raw / "fer2013")
    table, generator = pd.read_csv(folder / "table.csv"), np.random.default_rng(42)
    lines: list[str] = []
    for number in range(NUM_EXPW_FACES):
        copy, face = divmod(number, len(table))
        row = table.iloc[face]
        name = f"{copy:03d}_{row['photo']}"
        if not (raw / "expw/origin" / name).exists():
            os.link(folder / "photos" / row["photo"], raw / "expw/origin" / name)
        x, y, side = row["x"], row["y"], max(row["width"], row["height"])
        if copy:
            x, y = np.maximum((x, y) + generator.uniform(-0.5, 0.5, 2) * side, 0)
            side *= generator.uniform(0.7, 1.4)
        box = " ".join(str(round(value)) for value in (y, x, x + side, y + side))
        lines.append(f"{name} {face} {box} {row['confidence']} {CODE[row['expression']]}\n")
    (raw / "expw/label.lst").write_text("".join(lines), encoding="utf-8")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"], params["ingest_fer2013"]["labels"] = "full", "original"
    params["undersample"]["policy"], params["smote"]["enabled"] = "reference", True
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


# --- the ways: from the folder to an array ---


def csv_ours(folder: Path) -> np.ndarray:
    return fer2013.load(folder / "fer2013", FER2013_PARAMS)[0].images


def csv_itertuples(folder: Path) -> np.ndarray:
    table = pd.read_csv(folder / "fer2013/fer2013.csv")
    rows = [np.array(row.pixels.split(), dtype=np.uint8) for row in table.itertuples()]  # type: ignore[union-attr]
    return np.stack(rows).reshape(-1, 48, 48)


def csv_fromstring(folder: Path) -> np.ndarray:
    pixels = pd.read_csv(folder / "fer2013/fer2013.csv")["pixels"]
    return np.stack([np.fromstring(text, dtype=np.uint8, sep=" ") for text in pixels]).reshape(-1, 48, 48)


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
    "csv": (write_csv, {"ours": csv_ours, "itertuples, split": csv_itertuples, "np.fromstring": csv_fromstring}, 3),
    "crop": (write_photos, {"ours, all cores": crop_ours, "cv2.imread in full, one thread": crop_imread}, 3),
    "smote": (write_faces, {"ours, uint8": smote_ours, "imbalanced-learn, float64": smote_imblearn}, 1),
}


# --- measuring ---


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a new process, which starts small and shows no progress bars."""
    os.environ["TQDM_DISABLE"] = "1"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_memory() -> int:
    """Largest resident set of this process, bytes. (ru_maxrss would count its parent at the moment of the fork.)"""
    return 1024 * int(Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0])


def _timed(way: Way, folder: Path, output: Path) -> tuple[float, int]:
    """Seconds without imports, and the largest resident set of this process in bytes."""
    start = time.perf_counter()
    result = way(folder)
    seconds = time.perf_counter() - start
    peak = peak_memory()
    np.save(output, result)
    return seconds, peak


def machine() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    model = found[1] if found else platform.machine()
    data = "real pictures" if "FER_REAL_DATA" in os.environ else "drawn sample (FER_REAL_DATA is not set)"
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, NumPy {np.__version__}; {data}"


def compare(name: str, folder: Path) -> None:
    """Print a table of the ways of one benchmark, and how far their results agree with ours."""
    prepare, ways, repeats = BENCHMARKS[name]
    _alone(prepare, folder)
    outputs = {way: folder / f"{number}.npy" for number, way in enumerate(ways)}
    runs = [{way: _alone(_timed, ways[way], folder, outputs[way]) for way in ways} for _ in range(repeats)]
    results = {way: np.load(output, mmap_mode="r") for way, output in outputs.items()}
    ours = next(iter(ways))
    seconds = {way: statistics.median(run[way][0] for run in runs) for way in ways}
    rows = [
        (
            *(way, seconds[way], seconds[way] / seconds[ours], max(run[way][1] for run in runs) / 1e6),
            np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(results[way], results[ours], strict=True)]),
        )
        for way in ways
    ]
    heads = (f"{name}, {len(results[ours]):,} faces", "seconds", "times ours", "peak MB", "grey levels from ours")
    print(f"\n{tabulate(rows, heads, floatfmt=('', '.2f', '.2f', '.0f', '.2f'))}")
    print(f"median of {repeats}, largest peak", flush=True)


_RUN_STAGE = """
import pathlib, runpy, sys
runpy.run_module(sys.argv[1], run_name="__main__")
print(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def full_size(folder: Path) -> None:
    """Run the data stages as DVC starts them; seconds with start-up and imports."""
    _alone(write_full_size, folder)
    rows = []
    for stage in STAGES:
        start = time.perf_counter()
        command = [sys.executable, "-c", _RUN_STAGE, f"stages.{stage}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        seconds, peak = time.perf_counter() - start, int(result.stdout.split()[-1]) / 1000
        faces = pd.read_csv(folder / f"plots/class_distribution/{stage}.csv")["faces"].sum()
        rows.append((stage, seconds, peak, faces))
    rows.append(("all", sum(row[1] for row in rows), max(row[2] for row in rows), rows[-1][3]))
    heads = ("full size", "seconds", "peak MB", "faces")
    print(f"\n{tabulate(rows, heads, floatfmt=('', '.1f', '.0f'), intfmt=',')}\none run", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*BENCHMARKS, "full_size"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all by default")
    chosen = parser.parse_args().names or names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(names)}")
    print(machine())
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            full_size(Path(folder)) if name == "full_size" else compare(name, Path(folder))


if __name__ == "__main__":
    main()
