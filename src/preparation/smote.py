"""Balance train with SMOTE (Chawla et al. 2002): synthetic faces between a face and its neighbours of the same class.

In pixel space these are cross-fades of two faces, blurrier than photographs; `smote.enabled` says whether they
are made at all. What people saw in the two faces is mixed as their pixels are.
"""

from typing import Any

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE
from sklearn.neighbors import NearestNeighbors

from src.errors import UserError
from src.expressions import EXPRESSIONS, NUM_CLASSES
from src.faceset import FERPLUS, ORIGINAL, VOTES, FaceSet
from src.params import SmoteParams
from src.sheets import draw_sheet, pick_examples

_NUM_VOTERS = 10  # as in FER+
_NEAREST = 5  # real faces tried as the first parent


class _PixelNeighbors(NearestNeighbors):
    """Neighbours by all columns but the last `NUM_CLASSES`, which SMOTE interpolates without their having a say."""

    def fit(self, X: np.ndarray, y: Any = None) -> "_PixelNeighbors":
        return super().fit(X[:, :-NUM_CLASSES])

    def kneighbors(self, X: np.ndarray, **options: Any) -> Any:
        return super().kneighbors(X[:, :-NUM_CLASSES], **options)


def balance(faces: FaceSet, params: SmoteParams) -> FaceSet:
    """The faces as they are, followed by synthetic ones (labels: source "smote", synthetic True).

    Every class is filled up to `target_fraction` of the largest. Where people's votes are learned from, synthetic
    faces have ten: the mix of their two faces' distributions, rounded. Raises UserError when a class that needs filling
    has no more faces than `neighbors`.
    """
    if not params.enabled:
        return faces
    counts = np.bincount(faces.targets, minlength=NUM_CLASSES)
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
    rows = np.empty((len(faces), size * size + NUM_CLASSES), np.float32)
    rows[:, :-NUM_CLASSES] = np.asarray(faces.images).reshape(len(faces), -1)
    rows[:, -NUM_CLASSES:] = faces.distributions
    neighbors = _PixelNeighbors(n_neighbors=params.neighbors + 1)  # a face is the nearest to itself
    sampler = SMOTE(sampling_strategy=wanted, k_neighbors=neighbors, random_state=params.seed)
    resampled, targets = sampler.fit_resample(rows, faces.targets)  # originals first, in order
    # Not class by class: the statistics of averaged weights are taken from batches as they lie.
    order = len(faces) + np.random.default_rng(params.seed).permutation(len(resampled) - len(faces))
    new = resampled[order]
    images = np.clip(np.rint(new[:, :-NUM_CLASSES]), 0, 255).astype(np.uint8).reshape(-1, size, size)
    names = [f"smote/{number:06d}" for number in range(len(new))]
    kinds = faces.labels.dtypes.to_dict()
    values: dict[Any, Any] = {
        column: pd.NA if kind == "Int64" else False if kind == "bool" else "" for column, kind in kinds.items()
    }
    values |= {"image_name": names, "source": "smote", "group": names, "synthetic": True, "label_source": ORIGINAL}
    values["expression"] = values["original_expression"] = [EXPRESSIONS[code] for code in targets[order]]
    if "label_source" in faces.labels and (faces.labels["label_source"] == FERPLUS).any():
        votes = np.rint(new[:, -NUM_CLASSES:] * _NUM_VOTERS).astype(np.int64)
        values |= {"label_source": FERPLUS, **dict(zip(VOTES, votes.T, strict=True))}
    labels = pd.DataFrame(values)[list(kinds)].astype(kinds)
    return FaceSet(np.concatenate([faces.images, images]), pd.concat([faces.labels, labels], ignore_index=True))


def find_parents(face: np.ndarray, real: np.ndarray) -> tuple[int, int]:
    """Rows of the two faces between which a synthetic one lies.

    face: uint8 `(S, S)`. real: the real faces of its class, uint8 `(N, S, S)`, N >= 2.
    """
    offsets = real.reshape(len(real), -1).astype(np.float32) - face.reshape(-1).astype(np.float32)
    squares = np.einsum("ij,ij->i", offsets, offsets, dtype=np.float64)
    found = []
    for first in np.argsort(squares)[:_NEAREST]:  # a third face may be nearer than both
        products = (offsets @ offsets[first]).astype(np.float64)
        apart = np.maximum(squares - 2 * products + squares[first], 1e-6)
        share = np.clip((squares[first] - products) / apart, 0, 1)
        misses = squares[first] + 2 * share * (products - squares[first]) + share**2 * apart
        misses[first] = np.inf
        found.append((float(misses.min()), int(first), int(misses.argmin())))
    return min(found)[1:]


def smote_sheet(faces: FaceSet, per_class: int = 4) -> np.ndarray:
    """Synthetic faces, each between its two parents, for people to look at; uint8 `(H, W, 3)` BGR."""
    synthetic = faces.labels["synthetic"].to_numpy(bool)
    made, tiles, captions = np.flatnonzero(synthetic), [], []
    for row in made[pick_examples(faces.labels[synthetic], per_class)]:
        expression = faces.labels["expression"].iloc[row]
        real = np.flatnonzero(~synthetic & (faces.labels["expression"] == expression).to_numpy())
        first, second = real[list(find_parents(faces.images[row], faces.images[real]))]
        tiles += [faces.images[place] for place in (first, row, second)]
        captions += ["parent", f"synthetic: {expression}", "parent"]
    return draw_sheet(tiles, captions, 3 * per_class, 96, f"SMOTE: {len(made)} synthetic faces, examples")
