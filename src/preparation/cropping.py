"""All sources -> one FaceSet of one size: faces as they come, and faces out of photos, in the order of the registry.

Every photo is read and decoded once for all its faces, grey and as much smaller as they allow: libjpeg shrinks by 2, 4
or 8 while decoding (DCT scaling), at a fraction of the time. Threads do it, since OpenCV lets go of Python's lock; the
result depends neither on their number nor on the order of files on disk.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from src.datasets.archives import MemberError
from src.datasets.manifest import pixels_sha256
from src.datasets.photos import BOX_COLUMNS, PhotoError, PhotoFolder, decode, read_header
from src.datasets.registry import SOURCES
from src.datasets.skipped import SkippedRows
from src.errors import UserError
from src.faceset import COLUMNS, ORIGINAL, OTHER_VOTES, VOTES, FaceSet, class_counts
from src.params import CropParams
from src.recognition.crop_face import Box, crop_face, square_around

# A shrunk photo must still show each face at this multiple of the size of its crop. Measured on 3,430 ExpW
# photos at 48 px, mean absolute difference to crops from the full photo, in grey levels:
# 1.0 -> 2.8, 1.25 -> 1.6, 1.5 -> 1.1, 2.0 -> 0.6; processor time of the first three differs by about 5 %.
RESERVE = 1.5


def shrink_factor(boxes: Sequence[Box], image_size: int, margin: float) -> int:
    """The largest of 8, 4, 2, 1 by which a photo may be shrunk for its smallest face."""
    smallest = min(square_around(box, margin)[2] for box in boxes)
    return next((factor for factor in (8, 4, 2) if smallest >= factor * RESERVE * image_size), 1)


def crop_photo(photos: PhotoFolder, photo: str, boxes: Sequence[Box], image_size: int, margin: float) -> np.ndarray:
    """The crops of all boxes of one photo, uint8 `(len(boxes), S, S)`. Raises PhotoError or MemberError."""
    content = photos.read(photo)
    header = read_header(content)
    factor = shrink_factor(boxes, image_size, margin) if header.format == "JPEG" else 1
    picture = decode(content, header, factor=factor)
    crops = np.empty((len(boxes), image_size, image_size), np.uint8)
    for index, box in enumerate(boxes):
        try:
            left, top, side = (value / factor for value in square_around(box, margin))
            crops[index] = crop_face(picture, (left, top, side, side), image_size, margin=0)
        except ValueError:
            raise PhotoError("box outside the photo") from None
    return crops


def crop_faces(
    photos: PhotoFolder,
    photo_of_face: Sequence[str],
    boxes: Sequence[Box],
    image_size: int,
    margin: float,
    workers: int | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Crop every face; row i of both sequences describes face i. workers: threads; None leaves it to Python.

    Returns uint8 `(N, S, S)` in the order of the faces, and for faces that could not be cropped (zeros
    in the array) position -> reason.
    """
    faces_of_photo: dict[str, list[int]] = {}
    for face, photo in enumerate(photo_of_face):
        faces_of_photo.setdefault(photo, []).append(face)
    crops = np.zeros((len(boxes), image_size, image_size), np.uint8)
    failures: dict[int, str] = {}

    def crop(photo: str) -> None:
        faces = faces_of_photo[photo]
        try:
            crops[faces] = crop_photo(photos, photo, [boxes[face] for face in faces], image_size, margin)
        except (PhotoError, MemberError) as reason:
            failures.update(dict.fromkeys(faces, str(reason)))

    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(crop, faces_of_photo)
        for _ in tqdm(done, total=len(faces_of_photo), unit=" photos", desc="crop", mininterval=1):
            pass
    return crops, failures


def read_box_table(path: str | Path) -> pd.DataFrame:
    """The table of faces in photos that an ingest stage has written. Raises UserError when it is damaged."""
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype={"image_name": str, "photo": str, "group": str})
        whole_numbers = (table[name].dtype.kind == "i" for name in BOX_COLUMNS[2:6])
        if tuple(table.columns) != BOX_COLUMNS or not (table.empty or all(whole_numbers)):
            raise ValueError(f"expected the columns {', '.join(BOX_COLUMNS)}")
    except ValueError as error:
        again = f"dvc repro -f -s ingest_{Path(path).stem}"
        raise UserError(f"{path} is damaged ({error}). Rebuild it with `{again}`.") from error
    return table


def resize_faces(faces: FaceSet, image_size: int) -> np.ndarray:
    """Images of a set at another size, uint8 `(N, S, S)`, through the crop function."""
    size = faces.image_size
    if size == image_size:
        return np.asarray(faces.images)
    return np.stack([crop_face(np.asarray(image), (0, 0, size, size), image_size, margin=0) for image in faces.images])


def _crop_table(
    table: pd.DataFrame, photos: PhotoFolder, settings: CropParams, skipped: SkippedRows
) -> tuple[np.ndarray, pd.DataFrame]:
    """Crops and labels of the faces of a table of boxes; without those that cannot be cropped, which are counted."""
    boxes: list[Box] = list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))
    crops, failures = crop_faces(photos, list(table["photo"]), boxes, settings.image_size, settings.margin)
    for face, reason in sorted(failures.items()):
        skipped.add(reason, str(table["image_name"].iloc[face]))
    kept = ~np.isin(np.arange(len(table)), list(failures))
    labels = table.loc[kept, ["image_name", "expression", "group", "confidence"]]
    return crops[kept], labels.assign(confidence=labels["confidence"].map(str), copy_of="", synthetic=False)


def combine(raw: str | Path, interim: str | Path, settings: CropParams) -> tuple[FaceSet, dict[str, Any]]:
    """Faces of every source of the registry, one behind the other.

    raw: folder with the sources as downloaded. interim: folder with what their ingest stages have written.
    Returns the set, with columns that a source lacks left empty, and a report. Raises UserError when the outputs of a
    stage are missing or damaged, or when more than `settings.max_bad_fraction` of the faces cannot be cropped.
    """
    images, tables, skipped, rows_read = {}, [], SkippedRows(), 0
    for name, source in SOURCES.items():
        path = Path(interim, name)
        if path.is_dir():
            faces = FaceSet.load(path)
            images[name], labels = resize_faces(faces, settings.image_size), faces.labels
        elif path.with_suffix(".csv").is_file():
            table = read_box_table(path.with_suffix(".csv"))
            if table.empty:  # the source is left out
                continue
            rows_read += len(table)
            images[name], labels = _crop_table(table, source.find(Path(raw, name)).photos, settings, skipped)
        else:
            raise UserError(
                f"{path} (or {name}.csv) is missing. Build it with `dvc repro ingest_{name}`, or fetch it with "
                "`dvc pull`."
            )
        if "label_source" not in labels:
            labels = labels.assign(original_expression=labels["expression"], label_source=ORIGINAL)
        tables.append(labels.assign(source=name, usage=source.assign_usage(labels)))
    skipped.check(rows_read, settings.max_bad_fraction, "crop.max_bad_fraction", str(raw))
    joint = pd.concat(tables, ignore_index=True)
    joint = joint[[*COLUMNS, *(column for column in joint if column not in COLUMNS)]]
    texts = [column for column in joint if column not in (*VOTES, *OTHER_VOTES)]
    combined = FaceSet(np.concatenate(list(images.values())), joint.fillna(dict.fromkeys(texts, "")))
    report = {
        "faces": len(combined),
        "faces_per_source": {name: len(crops) for name, crops in images.items()},
        "image_size": settings.image_size,
        "skipped": skipped.report(),
        "faces_per_class": class_counts(combined.labels),
        "manifest": {name: {"pixels_sha256": pixels_sha256(crops)} for name, crops in images.items()},
    }
    return combined, report
