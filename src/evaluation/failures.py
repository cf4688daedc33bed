"""Where the model fails, on validation: kinds of faces, damaged faces, pairs of expressions, and labels in doubt.

In: scored faces of each source, by the labels nearest to what training learned. Out: plain figures, for
metrics/details/evaluate.json, plots/conditions.png, plots/corruptions.png and the model card.

Tilt is left out: a 48-pixel crop does not have eyes sharp enough to be measured, and FER2013 has no photos behind it.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pandas as pd

from src.evaluation.labellings import by_majority, clusters, section
from src.evaluation.metrics import ScoringRules, confusion_matrix, evaluate_faces, rounded
from src.evaluation.scoring import ScoredFaces
from src.expressions import EXPRESSIONS, NUM_CLASSES
from src.recognition.classifier import Classifier

_GROUPS = 4  # equally many faces each
_CORRUPTED_FACES = 1500  # at most, of each source: 15 times as many are classified
_CONFUSED_PAIRS = 5
_CONFIDENT = 0.9


def _jpeg(face: np.ndarray, quality: float) -> np.ndarray:
    encoded = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _fewer_pixels(face: np.ndarray, share: float) -> np.ndarray:
    side = max(1, round(share * len(face)))
    return cv2.resize(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), face.shape[::-1])


# Name -> what is done to one face uint8 `(S, S)`, and three strengths. Most are among the kinds of Hendrycks and
# Dietterich, ICLR 2019.
CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, float, np.random.Generator], np.ndarray], tuple[float, ...]]] = {
    "noise (sigma, grey levels)": (
        lambda face, sigma, rng: np.clip(face + rng.normal(0, sigma, face.shape), 0, 255).astype(np.uint8),
        (10, 20, 40),
    ),
    "blur (sigma, % of the face)": (
        lambda face, sigma, _: cv2.GaussianBlur(face, (0, 0), sigma * len(face) / 100),
        (2, 3, 5),
    ),
    "JPEG (quality)": (lambda face, quality, _: _jpeg(face, quality), (40, 20, 10)),
    "darker (share of the light)": (lambda face, light, _: (face * light).astype(np.uint8), (0.5, 0.25, 0.1)),
    "fewer pixels (share of the side)": (lambda face, share, _: _fewer_pixels(face, share), (0.5, 0.33, 0.25)),
}


def failure_figures(
    classifier: Classifier, validation: ScoredFaces, box_sides: pd.Series, rules: ScoringRules
) -> dict[str, Any]:
    """Kind of figure -> section -> figures. 2,000 corrupted faces take about 30 s on 2 cores.

    box_sides: pixels, by name of the face.
    """
    parts = validation.main()
    return {
        "conditions": {name: by_condition(part, box_sides, rules) for name, part in parts.items()},
        "corruptions": {name: by_corruption(classifier, part, rules) for name, part in parts.items()},
        "confused_pairs": {name: confused_pairs(part) for name, part in parts.items()},
        "label_noise": label_noise(validation),
    }


def by_condition(part: ScoredFaces, box_sides: pd.Series, rules: ScoringRules) -> dict[str, list[Any]]:
    """Condition -> quarters of the faces in rising order: from, to, and their accuracy. Size only where it is known."""
    images, cluster = part.faces.images, clusters(part.faces.labels)
    values = {
        "size": part.faces.labels["image_name"].map(box_sides).to_numpy(np.float64),
        "sharpness": np.array([cv2.Laplacian(np.asarray(image), cv2.CV_64F).var() for image in images]),
        "brightness": images.mean(axis=(1, 2)),
    }
    figures = {}
    for name, value in values.items():
        known = np.flatnonzero(np.isfinite(value))
        groups = np.array_split(known[np.argsort(value[known], kind="stable")], _GROUPS)
        if all(map(len, groups)):
            figures[name] = [
                rounded({"from": value[rows].min(), "to": value[rows].max()})
                | evaluate_faces(part.probabilities[rows], part.targets[rows], cluster[rows], rules, per_class=False)
                for rows in groups
            ]
    return figures


def by_corruption(classifier: Classifier, part: ScoredFaces, rules: ScoringRules) -> dict[str, Any]:
    """Accuracy on some of the faces as they are (`none`) and after each corruption, at its strengths."""
    count = len(part.targets)
    rows = np.unique(np.linspace(0, count - 1, min(count, _CORRUPTED_FACES)).astype(int))
    faces, targets = part.faces.images[rows], part.targets[rows]
    figures: dict[str, Any] = {"n": len(rows), "none": part.correct[rows].mean()}
    for name, (corrupt, strengths) in CORRUPTIONS.items():
        figures[name] = {}
        for strength in strengths:
            generator = np.random.default_rng(rules.seed)
            damaged = np.stack([corrupt(face, strength, generator) for face in faces])
            figures[name][f"{strength:g}"] = (classifier.predict(damaged).argmax(axis=1) == targets).mean()
    return rounded(figures)


def confused_pairs(part: ScoredFaces) -> list[dict[str, Any]]:
    """The answers most often given in the place of another expression, by share of the faces with that label."""
    confusion = confusion_matrix(part.targets, part.predicted)[:NUM_CLASSES]
    support = confusion.sum(axis=1, keepdims=True)
    share = confusion / np.maximum(support, 1) * ~np.eye(NUM_CLASSES, dtype=bool)
    worst = np.argsort(-share, axis=None, kind="stable")[:_CONFUSED_PAIRS]
    return [
        rounded({"label": EXPRESSIONS[i], "answer": EXPRESSIONS[j], "share": share[i, j], "n": int(support[i, 0])})
        for i, j in zip(*np.unravel_index(worst, share.shape), strict=True)
        if share[i, j] > 0
    ]


def label_noise(validation: ScoredFaces) -> dict[str, dict[str, Any]]:
    """Section of each source's own labels -> n, how often the model is surely (from .9 on) of another opinion, and,
    where FER+'s majority decides such a face, how often it sides with the model and with the label."""
    labels = validation.faces.labels
    majority = np.full(len(labels), -1)
    votes, voted = by_majority(labels)
    majority[voted] = votes
    figures = {}
    for source in sorted(set(labels["source"])):
        targets, rows = section(labels, source)
        against = (validation.predicted[rows] != targets) & (validation.confidence[rows] >= _CONFIDENT)
        figures[source] = {"n": len(rows), "against_label": int(against.sum())}
        decided = against & (majority[rows] >= 0)
        if decided.any():
            figures[source] |= {
                "decided_by_votes": int(decided.sum()),
                "votes_for_model": int((majority[rows] == validation.predicted[rows])[decided].sum()),
                "votes_for_label": int((majority[rows] == targets)[decided].sum()),
            }
    return figures
