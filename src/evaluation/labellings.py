"""What counts as right: a labelling is a function from a table of labels to (targets, rows).

rows: positions of the faces that the labelling decides, int64 `(M,)`. targets: their classes, int64 `(M,)`, in the
order of `EXPRESSIONS`; `CONTEMPT` is FER+'s eighth class, which the model does not name, so every
answer to it is wrong.

FER+ (Barsoum et al., ICMI 2016) is ten people's votes for each picture of FER2013, and papers make labels of them in
two ways: by the authors' majority, which leaves out pictures on which people disagree, or by the most votes.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from src.expressions import CODE, NUM_CLASSES
from src.faceset import FERPLUS, OTHER_VOTES, VOTES

CONTEMPT = NUM_CLASSES
SOURCES = ("fer2013", "expw")  # that have files of their own for DVC's plots
OWN_PICTURES = "pictures"  # source of faces that are no data set
Targets = tuple[np.ndarray, np.ndarray]  # targets, rows
# FER+'s order of columns, by which the first of equal votes wins: its authors' code and most others take an argmax.
_FERPLUS_ORDER = np.array([6, 3, 5, 4, 0, 1, 2, 7, 8, 9])  # neutral, happy, surprise, sad, angry, disgust, fear, ...


def as_trained(labels: pd.DataFrame) -> Targets:
    """Every face, by the label that training uses."""
    return _expressions(labels, np.ones(len(labels), bool))


def own_labels(labels: pd.DataFrame) -> Targets:
    """FER2013's own label of each of its pictures."""
    column = "original_expression" if "original_expression" in labels else "expression"
    return _expressions(labels, (labels["source"] == "fer2013").to_numpy(), column)


def of_source(labels: pd.DataFrame, source: str) -> Targets:
    return _expressions(labels, (labels["source"] == source).to_numpy())


def by_majority(labels: pd.DataFrame, classes: int = 8) -> Targets:
    """FER+'s authors' majority: votes of one are dropped, and the largest must be more than half of what is left.

    Unknown and no face are no classes; with 7 of them contempt is none either.
    """
    votes = _votes(labels)
    votes[votes == 1] = 0
    return _winners(votes, 2 * votes.max(axis=1) > votes.sum(axis=1), classes)


def by_most_votes(labels: pd.DataFrame, classes: int = 8) -> Targets:
    """The argmax of all ten votes, where it is one of the classes: what many later papers use."""
    votes = _votes(labels)
    return _winners(votes, votes.max(axis=1) > 0, classes)


LABELLINGS: dict[str, Callable[[pd.DataFrame], Targets]] = {
    "ferplus": by_majority,
    "ferplus_7": lambda labels: by_majority(labels, 7),
    "ferplus_argmax": by_most_votes,
    "ferplus_argmax_7": lambda labels: by_most_votes(labels, 7),
    "fer2013": own_labels,
    "all": as_trained,
}
TITLES = {
    "ferplus": "FER+ majority, 8 classes",
    "ferplus_7": "FER+ majority, 7 classes",
    "ferplus_argmax": "FER+ most votes, 8 classes",
    "ferplus_argmax_7": "FER+ most votes, 7 classes",
    "fer2013": "FER2013's own labels",
    "expw": "ExpW",
    "all": "all faces",
}
_TOLD_APART = ("ferplus", "fer2013", "all")  # and each other source: by whether a picture had a copy in train


def section(labels: pd.DataFrame, name: str) -> Targets:
    """By a labelling, or, for the name of another source, the faces of that source."""
    return LABELLINGS[name](labels) if name in LABELLINGS else of_source(labels, name)


def title(section: str) -> str:
    name = section.removesuffix("_without_copies")
    return TITLES.get(name, name) + (", without copies" if name != section else "")


def split_sections(labels: pd.DataFrame) -> dict[str, Targets]:
    """Every labelling that decides faces; the main ones, where `copy_in_train` is known, again without those."""
    others = sorted(set(labels["source"]) - {"fer2013", OWN_PICTURES})
    sections = {name: section(labels, name) for name in [*LABELLINGS, *others]}
    if "copy_in_train" in labels:
        clean = ~labels["copy_in_train"].to_numpy(bool)
        for name in [*_TOLD_APART, *others]:
            targets, rows = sections[name]
            sections[f"{name}_without_copies"] = targets[clean[rows]], rows[clean[rows]]
    return {name: found for name, found in sections.items() if len(found[0])}


def main_sections(labels: pd.DataFrame) -> dict[str, str]:
    """Source -> the section whose labels are nearest to what training learned; sources without faces are left out."""
    voted = "label_source" in labels and (labels["label_source"] == FERPLUS).any()
    others = sorted(set(labels["source"]) - {"fer2013"})
    names = {"fer2013": "ferplus" if voted else "fer2013"} | {source: source for source in others}
    return {source: name for source, name in names.items() if len(section(labels, name)[0])}


def clusters(labels: pd.DataFrame) -> np.ndarray:
    """Number of the cluster of each face, int64 `(N,)`: copies of one picture and faces of one photo are not
    independent, so intervals draw them together."""
    names = labels["image_name"]
    original = labels["copy_of"].where(labels["copy_of"] != "", names)
    nodes = pd.factorize(pd.concat(["picture " + original, "photo " + labels["group"]]))[0]
    pairs = coo_array((np.ones(len(names), bool), (nodes[: len(names)], nodes[len(names) :])), (nodes.max() + 1,) * 2)
    return connected_components(pairs, directed=False)[1][nodes[: len(names)]]


def _expressions(labels: pd.DataFrame, chosen: np.ndarray, column: str = "expression") -> Targets:
    rows = np.flatnonzero(chosen)
    return labels[column].iloc[rows].map(CODE).to_numpy(np.int64), rows


def _votes(labels: pd.DataFrame) -> np.ndarray:
    """int64 `(N, 10)`: seven expressions, contempt, unknown, no face; zeros where nobody voted."""
    columns = [*VOTES, *OTHER_VOTES]
    if not set(columns) <= set(labels):
        return np.zeros((len(labels), len(columns)), np.int64)
    return labels[columns].to_numpy(np.float64, na_value=0).astype(np.int64)


def _winners(votes: np.ndarray, decided: np.ndarray, classes: int) -> Targets:
    winner = _FERPLUS_ORDER[votes[:, _FERPLUS_ORDER].argmax(axis=1)]
    rows = np.flatnonzero(decided & (winner < classes))
    return winner[rows], rows
