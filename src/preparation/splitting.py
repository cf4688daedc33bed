"""Split faces into train, validation and test without leaks.

- `official`: FER2013 by its own usage (Training, PublicTest, PrivateTest); ExpW 70/15/15 by photo.
- `random`: both sources 60/20/20 by photo.
No photo is parted. Of pictures that are copies of one another, those in test stay and the others leave
validation and train; else those in validation stay and the others leave train.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet, class_counts
from src.params import SplitParams
from src.preparation.copies import CopyPairs, find_copies

SPLITS = ("train", "validation", "test")
_FRACTIONS = {"official": (0.70, 0.15, 0.15), "random": (0.60, 0.20, 0.20)}
_USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


def assign_groups(labels: pd.DataFrame, fractions: tuple[float, float, float], seed: int) -> np.ndarray:
    """Assign whole groups to splits at random, stratified by source and by each group's rarest class.

    Returns split names, object `(N,)`. The result depends on the group names, not on the row order.
    """
    rarity = labels["expression"].map(labels["expression"].value_counts()).to_numpy()
    # Ties between equally rare classes are broken by class order.
    code = labels["expression"].map({name: code for code, name in enumerate(EXPRESSIONS)}).to_numpy()
    table = pd.DataFrame({"group": labels["group"], "source": labels["source"], "rarity": rarity, "code": code})
    groups = table.sort_values(["group", "rarity", "code"], kind="stable").groupby("group", sort=True).first()
    generator = np.random.default_rng(seed)
    groups = groups.iloc[generator.permutation(len(groups))]
    position = groups.groupby(["source", "code"]).cumcount().to_numpy()
    size = groups.groupby(["source", "code"])["rarity"].transform("size").to_numpy()
    place = (position + 0.5) / size
    split = np.where(place < fractions[0], "train", np.where(place < fractions[0] + fractions[1], "validation", "test"))
    return labels["group"].map(dict(zip(groups.index, split, strict=True))).to_numpy(object)


def assign_splits(labels: pd.DataFrame, protocol: str, seed: int) -> np.ndarray:
    """The split of every row before copies are removed, object `(N,)` of "train", "validation" or "test".

    Raises UserError for a FER2013 row without a known usage under the official protocol.
    """
    if protocol == "random":
        return assign_groups(labels, _FRACTIONS["random"], seed)
    fer2013 = (labels["source"] == "fer2013").to_numpy()
    split = np.empty(len(labels), object)
    unknown = sorted(set(labels["usage"][fer2013]) - set(_USAGES))
    if unknown:
        raise UserError(
            f"FER2013 rows have the usages {unknown}; the official split needs {sorted(_USAGES)}. "
            "Use data with its original usage, or set split.protocol=random."
        )
    split[fer2013] = labels["usage"][fer2013].map(_USAGES)
    if not fer2013.all():
        others = labels[~fer2013]
        split[~fer2013] = assign_groups(others, _FRACTIONS["official"], seed)
    return split


@dataclass(frozen=True)
class Split:
    """The three FaceSets, what was removed, and the pairs of copies (rows of the input)."""

    parts: dict[str, FaceSet]
    pairs: CopyPairs
    report: dict[str, object]


def split_faces(faces: FaceSet, params: SplitParams) -> Split:
    """Assign, find copies, remove those that leak.

    Adds two columns to the labels: `copy_of` (name of the first picture of the cluster, in the order test,
    validation, train) and `copy_in_train` (bool: another picture of its cluster was in train before removal).
    Raises UserError when a split ends up without faces or train without a class.
    """
    labels = faces.labels.copy()
    assigned = assign_splits(labels, params.protocol, params.seed)
    pairs = find_copies(faces.images, params.copy_similarity)
    cluster = pairs.clusters(len(faces))
    rank = pd.Series(assigned).map({"test": 0, "validation": 1, "train": 2}).to_numpy(np.int64)

    order = np.lexsort((np.arange(len(faces)), rank, cluster))
    is_first = np.r_[True, np.diff(cluster[order]) != 0]
    first_of_cluster = np.empty(cluster.max() + 1, np.int64)
    first_of_cluster[cluster[order][is_first]] = order[is_first]
    representative = first_of_cluster[cluster]
    names = labels["image_name"].to_numpy(object)
    is_copy = representative != np.arange(len(faces))
    labels["copy_of"] = np.where(is_copy, names[representative], "")
    train_members = np.bincount(cluster[assigned == "train"], minlength=len(first_of_cluster))
    labels["copy_in_train"] = train_members[cluster] - (assigned == "train") > 0

    leaks = rank > rank[representative]
    keep = ~leaks if params.remove_copies else np.ones(len(faces), bool)
    parts = {}
    for name in SPLITS:
        rows = np.flatnonzero((assigned == name) & keep)
        if not len(rows):
            raise UserError(f"The {name} split has no faces. Add data, or choose another split.protocol.")
        parts[name] = faces.select(rows)
        parts[name] = FaceSet(parts[name].images, labels.iloc[rows].reset_index(drop=True))
    absent = [name for name, count in class_counts(parts["train"].labels).items() if not count]
    if absent:
        raise UserError(f"The train split has no faces of {', '.join(absent)}. Every class needs some; add data.")

    conflicting = labels.groupby(cluster)["expression"].nunique() > 1
    sizes = np.bincount(cluster)
    report: dict[str, object] = {
        "protocol": params.protocol,
        "faces": {
            name: {
                source: class_counts(part.labels[part.labels["source"] == source])
                for source in sorted(set(part.labels["source"]))
            }
            for name, part in parts.items()
        },
        "total": {name: len(part) for name, part in parts.items()},
        "copies": {
            "exact_pairs": int((pairs.similarity == 1).sum()),
            "near_pairs": int((pairs.similarity < 1).sum()),
            "mirrored_pairs": int(pairs.mirrored.sum()),
            "groups": int((sizes > 1).sum()),
            "redundant": int((sizes[sizes > 1] - 1).sum()),
            "largest_group": int(sizes.max()),
            "groups_with_conflicting_labels": int(conflicting.sum()),
            "test_with_copy_in_train": int(labels["copy_in_train"][assigned == "test"].sum()),
            "validation_with_copy_in_train": int(labels["copy_in_train"][assigned == "validation"].sum()),
        },
        "removed": {name: int((leaks & (assigned == name)).sum()) if params.remove_copies else 0 for name in SPLITS},
    }
    return Split(parts, pairs, report)
