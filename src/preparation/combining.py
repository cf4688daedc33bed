"""FER2013 and ExpW -> one FaceSet of one size: FER2013's faces first, then those cropped out of ExpW's photos."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.datasets.expw import COLUMNS, find_expw
from src.datasets.skipped import SkippedRows
from src.errors import UserError
from src.faceset import ORIGINAL, FaceSet, class_counts
from src.params import CropParams
from src.preparation.cropping import crop_faces
from src.recognition.crop_face import Box, crop_face


def read_expw_table(path: str | Path) -> pd.DataFrame:
    """The table written by the ingest_expw stage. Raises UserError when it is missing or damaged."""
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype={"image_name": str, "photo": str, "group": str})
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing. Build it with `dvc repro ingest_expw`, or fetch it with `dvc pull`."
        ) from None
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path} is damaged ({error}). Rebuild it with `dvc repro -f -s ingest_expw`.") from error
    if tuple(table.columns) != COLUMNS or any(table[name].dtype.kind != "i" for name in ("x", "y", "width", "height")):
        raise UserError(
            f"{path} is damaged; expected the columns {', '.join(COLUMNS)}. Rebuild it with "
            "`dvc repro -f -s ingest_expw`."
        )
    return table


def resize_faces(faces: FaceSet, image_size: int) -> np.ndarray:
    """Images of a set at another size, uint8 `(N, S, S)`, through the crop function."""
    size = faces.image_size
    if size == image_size:
        return np.asarray(faces.images)
    whole: Box = (0, 0, size, size)
    resized = np.empty((len(faces), image_size, image_size), np.uint8)
    for index, image in enumerate(faces.images):
        resized[index] = crop_face(np.asarray(image), whole, image_size, margin=0)
    return resized


def combine(
    fer2013: FaceSet, table: pd.DataFrame, expw_folder: str | Path, settings: CropParams
) -> tuple[FaceSet, dict[str, Any]]:
    """Crop ExpW's faces and put them behind FER2013's.

    Returns the set, with ExpW's `confidence` (percent; empty for FER2013) as additional column, and a
    report. Raises UserError when more than `settings.max_bad_fraction` of ExpW's faces cannot be cropped.
    """
    photos = find_expw(expw_folder).photos
    boxes: list[Box] = list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))
    crops, failures = crop_faces(photos, list(table["photo"]), boxes, settings.image_size, settings.margin)
    skipped = SkippedRows()
    for face, reason in sorted(failures.items()):
        skipped.add(reason, str(table["image_name"].iloc[face]))
    skipped.check(len(table), settings.max_bad_fraction, "crop.max_bad_fraction", str(expw_folder))

    is_cropped = ~np.isin(np.arange(len(table)), list(failures))
    labels = table.loc[is_cropped, ["image_name", "expression", "group"]].assign(
        source="expw", usage="", copy_of="", synthetic=False, confidence=table.loc[is_cropped, "confidence"].map(str)
    )
    labels = labels.assign(original_expression=labels["expression"], label_source=ORIGINAL)
    columns = [*fer2013.labels.columns, "confidence"]
    combined = FaceSet(
        np.concatenate([resize_faces(fer2013, settings.image_size), crops[is_cropped]]),
        pd.concat([fer2013.labels.assign(confidence=""), labels], ignore_index=True).reindex(columns=columns),
    )
    report = {
        "faces": len(combined),
        "faces_per_source": {"fer2013": len(fer2013), "expw": int(is_cropped.sum())},
        "image_size": settings.image_size,
        "skipped": skipped.report(),
        "faces_per_class": class_counts(combined.labels),
    }
    return combined, report
