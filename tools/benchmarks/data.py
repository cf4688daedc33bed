"""Data of the field's full size, made from the little that is at hand.

With the environment variable FER_REAL_DATA, from `fer2013.zip` and `expw.zip` in that folder; without it, from the
drawn sample in data/raw/sample, where times of decoding and of finding copies say less.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from src.datasets import expw, fer2013
from src.expressions import CODE
from src.faceset import FaceSet
from src.params import IngestExpwParams, IngestFer2013Params
from tools.benchmarks.measuring import ROOT

# Rows of the official CSV per usage.
USAGES = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}


def source() -> str:
    """Where the data comes from, for the tables."""
    return "real pictures" if "FER_REAL_DATA" in os.environ else "drawn sample (FER_REAL_DATA is not set)"


def _raw(folder: Path, dataset: str) -> Path:
    """A folder with one data set as downloaded."""
    if "FER_REAL_DATA" not in os.environ:
        return ROOT / "data/raw/sample" / dataset
    target = folder / f"download_{dataset}"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(os.environ["FER_REAL_DATA"], f"{dataset}.zip"), target / f"{dataset}.zip")
    return target


def load_faces(folder: Path) -> FaceSet:
    """FER2013 as it is at hand."""
    settings = IngestFer2013Params(labels="original", max_bad_fraction=0.02)
    return fer2013.load(_raw(folder, "fer2013"), settings)[0]


def write_fer2013_csv(path: Path, faces: FaceSet) -> None:
    """The official CSV of 35,887 rows: the rows of each usage, repeated as often as it takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = faces.targets
    images = np.asarray(faces.images).reshape(len(faces), -1)
    with path.open("w", encoding="ascii") as file:
        file.write("emotion,pixels,Usage\n")
        for usage, count in USAGES.items():
            rows = np.flatnonzero(faces.labels["usage"] == usage)
            lines = [f"{codes[row]},{' '.join(map(str, images[row].tolist()))},{usage}\n" for row in rows[:count]]
            for number in range(count):
                file.write(lines[number % len(lines)])


def unpack_photos(folder: Path) -> tuple[Path, pd.DataFrame]:
    """ExpW's photos in a folder of their own, and the checked table of their faces."""
    raw = _raw(folder, "expw")
    table, _ = expw.load(raw, IngestExpwParams(confidence_min=0.0, max_bad_fraction=0.05))
    photos = expw.find(raw).photos
    target = folder / "photos"
    target.mkdir()
    for name in table["photo"].unique():
        (target / name).write_bytes(photos.read(name))
    return target, table


def write_expw(folder: Path, originals: Path, table: pd.DataFrame, num_faces: int, seed: int = 42) -> None:
    """`label.lst` and `origin/` with `num_faces` faces: photos repeated under new names, as hard links.

    The first copy of a photo keeps its boxes. In the others each box is moved by up to half its side and scaled by
    .7 to 1.4: with the same crops again and again, finding copies would be unrealistically quick.
    """
    generator = np.random.default_rng(seed)
    origin = folder / "origin"
    origin.mkdir(parents=True)
    lines: list[str] = []
    photos, boxes = list(table["photo"]), table[["x", "y", "width", "height"]].to_numpy(float)
    confidence, codes = list(table["confidence"]), list(table["expression"].map(CODE))
    copy = 0
    while len(lines) < num_faces:
        for face in range(min(len(table), num_faces - len(lines))):
            name = f"{copy:03d}_{photos[face]}"
            if not (origin / name).exists():
                os.link(originals / photos[face], origin / name)
            x, y, side = boxes[face, 0], boxes[face, 1], boxes[face, 2:].max()
            if copy:
                x, y = np.maximum(boxes[face, :2] + generator.uniform(-0.5, 0.5, 2) * side, 0)
                side *= generator.uniform(0.7, 1.4)
            box = " ".join(str(round(value)) for value in (y, x, x + side, y + side))
            lines.append(f"{name} {face} {box} {confidence[face]} {codes[face]}")
        copy += 1
    (folder / "label.lst").write_text("\n".join(lines) + "\n", encoding="utf-8")


def shifted_faces(faces: FaceSet, counts: dict[str, int], seed: int = 42) -> FaceSet:
    """So many faces of each class: real ones, repeated with shifts of up to 3 pixels, edges repeated."""
    generator = np.random.default_rng(seed)
    images, rows = [], []
    for name, count in counts.items():
        candidates = np.flatnonzero(faces.labels["expression"] == name)
        chosen = np.concatenate([generator.permutation(candidates) for _ in range(-(-count // len(candidates)))])[
            :count
        ]
        for number, row in enumerate(chosen):
            image = np.asarray(faces.images[row])
            if number >= len(candidates):
                shift = generator.integers(-3, 4, 2)
                image = np.pad(image, 3, mode="edge")[3 + shift[0] :, 3 + shift[1] :][:48, :48]
            images.append(image)
            rows.append(row)
    labels = faces.labels.iloc[rows].reset_index(drop=True)
    labels["image_name"] = [f"fer2013/Training_{number:06d}" for number in range(len(labels))]
    labels["group"] = labels["image_name"]
    order = generator.permutation(len(labels))
    return FaceSet(np.stack(images)[order], labels.iloc[order].reset_index(drop=True))
