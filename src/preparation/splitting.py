"""Split faces into train, validation and test without leaks.

- `official`: faces with a usage of their source's own (Training, PublicTest, PrivateTest: FER2013) by that, the others
  (ExpW) 70/15/15 by photo.
- `random`: all 60/20/20 by photo.
No photo is parted. Of pictures that are copies of one another, those in test stay and the others leave
validation and train; else those in validation stay and the others leave train. Under labels=ferplus, pictures in which
people saw no face or no expression leave train.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.errors import UserError
from src.faceset import FERPLUS, OTHER_VOTES, VOTES, FaceSet, class_counts
from src.params import SplitParams
from src.preparation.copies import CopyPairs, find_copies

SPLITS = ("train", "validation", "test")
_FRACTIONS = {"official": (0.70, 0.15, 0.15), "random": (0.60, 0.20, 0.20)}
_USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


def assign_groups(groups: pd.Series, fractions: tuple[float, float, float], seed: int) -> np.ndarray:
    """Assign whole groups to splits by a hash of their name and the seed alone.

    groups: group name of every row. Returns split names, object `(N,)`. One photo more or less moves no other, which
    stratifying by class could not promise; with hundreds of photos per class the shares of the classes differ little.
    """

    def split_of(group: str) -> str:
        digest = hashlib.sha256(f"{seed}/{group}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
        return SPLITS[int(place >= fractions[0]) + int(place >= fractions[0] + fractions[1])]

    return groups.map({group: split_of(group) for group in groups.unique()}).to_numpy(object)


def assign_splits(labels: pd.DataFrame, protocol: str, seed: int) -> np.ndarray:
    """The split of every row before copies are removed, object `(N,)` of "train", "validation" or "test".

    A row without a usage is drawn with its photo. Raises UserError for an unknown usage under the official protocol.
    """
    if protocol == "random":
        return assign_groups(labels["group"], _FRACTIONS["random"], seed)
    unknown = sorted(set(labels["usage"]) - set(_USAGES) - {""})
    if unknown:
        raise UserError(
            f"Faces have the usages {unknown}; the official split accepts {sorted(_USAGES)}, or none where photos are "
            "to be drawn. Use data with its original usage, or set split.protocol=random."
        )
    split = labels["usage"].map(_USAGES)
    drawn = (labels["usage"] == "").to_numpy()
    split[drawn] = assign_groups(labels["group"][drawn], _FRACTIONS["official"], seed)
    return split.to_numpy(object)


def shows_no_expression(labels: pd.DataFrame) -> np.ndarray:
    """Whether most of the people who voted saw no face, or no expression that they could name; bool `(N,)`."""
    if not set(OTHER_VOTES) <= set(labels.columns):
        return np.zeros(len(labels), bool)
    named = labels[[*VOTES, "votes_contempt"]].to_numpy(np.float32, na_value=0).max(axis=1)
    neither = labels[["votes_unknown", "votes_no_face"]].to_numpy(np.float32, na_value=0).max(axis=1)
    return (labels["label_source"] == FERPLUS).to_numpy() & (neither > named)


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

    order = np.argsort(rank, kind="stable")
    representative = pd.Series(order).groupby(cluster[order]).first().to_numpy()[cluster]
    names = labels["image_name"].to_numpy(object)
    is_copy = representative != np.arange(len(faces))
    labels["copy_of"] = np.where(is_copy, names[representative], "")
    train_members = np.bincount(cluster[assigned == "train"], minlength=cluster.max() + 1)
    labels["copy_in_train"] = train_members[cluster] - (assigned == "train") > 0

    leaks = rank > rank[representative] if params.remove_copies else np.zeros(len(faces), bool)
    no_expression = shows_no_expression(labels) & (assigned == "train")
    keep = ~leaks & ~no_expression
    parts = {}
    for name in SPLITS:
        rows = np.flatnonzero((assigned == name) & keep)
        if not len(rows):
            raise UserError(f"The {name} split has no faces. Add data, or choose another split.protocol.")
        parts[name] = FaceSet(faces.images[rows], labels.iloc[rows].reset_index(drop=True))
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
        "removed": {name: int((leaks & (assigned == name)).sum()) for name in SPLITS},
        "removed_no_face_or_unknown": int((no_expression & ~leaks).sum()),
    }
    return Split(parts, pairs, report)
