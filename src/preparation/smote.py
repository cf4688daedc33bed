"""Balance train with SMOTE (Chawla et al. 2002): synthetic faces between a face and its neighbours of the same class.

In pixel space these are cross-fades of two faces, blurrier than photographs; `smote.enabled` says whether they
are made at all.
"""

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import ORIGINAL, FaceSet
from src.params import SmoteParams


def balance(faces: FaceSet, params: SmoteParams) -> FaceSet:
    """The faces as they are, followed by synthetic ones (labels: source "smote", synthetic True).

    Every class is filled up to `target_fraction` of the largest. Raises UserError when a class that
    needs filling has no more faces than `neighbors`.
    """
    if not params.enabled:
        return faces
    counts = np.bincount(faces.targets, minlength=len(EXPRESSIONS))
    goal = round(int(counts.max()) * params.target_fraction)
    wanted = {code: goal for code, count in enumerate(counts) if 0 < count < goal}
    for code in wanted:
        if counts[code] <= params.neighbors:
            raise UserError(
                f"SMOTE needs more than smote.neighbors = {params.neighbors} faces of each class, but train has "
                f"{counts[code]} of {EXPRESSIONS[code]}. Lower smote.neighbors, add data, or set smote.enabled=false."
            )
    if not wanted:
        return faces
    size = faces.image_size
    # float32 halves the memory of the default float64 and holds grey levels exactly.
    pixels = np.asarray(faces.images).reshape(len(faces), -1).astype(np.float32)
    sampler = SMOTE(sampling_strategy=wanted, k_neighbors=params.neighbors, random_state=params.seed)
    resampled, targets = sampler.fit_resample(pixels, faces.targets)  # originals first, in order
    new = np.clip(np.rint(resampled[len(faces) :]), 0, 255).astype(np.uint8).reshape(-1, size, size)
    names = [f"smote/{number:06d}" for number in range(len(new))]
    labels = pd.DataFrame(
        {
            "image_name": names,
            "source": "smote",
            "usage": "",
            "expression": [EXPRESSIONS[code] for code in targets[len(faces) :]],
            "group": names,
            "copy_of": "",
            "synthetic": True,
        }
    )
    labels = labels.assign(original_expression=labels["expression"], label_source=ORIGINAL)  # no one voted on them
    for column in faces.labels.columns.difference(labels.columns):
        kind = faces.labels[column].dtype
        filler = pd.NA if kind == "Int64" else False if kind == "bool" else ""
        labels[column] = pd.Series([filler] * len(new), dtype=kind)
    return FaceSet(
        np.concatenate([faces.images, new]),
        pd.concat([faces.labels, labels[faces.labels.columns]], ignore_index=True),
    )
