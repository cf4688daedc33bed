"""Predicted probabilities and targets -> the figures of metrics/details/evaluate.json.

Pure functions on arrays; nothing here reads a file. `evaluate_faces` gives the figures of one set of faces,
`evaluate_split` those of every section of a split. 7,000 faces take about a second, nearly all of it the bootstrap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.stats import binomtest

from src.evaluation.calibration import expected_calibration_error
from src.evaluation.labellings import CONTEMPT, clusters, split_sections
from src.expressions import EXPRESSIONS, NUM_CLASSES

DECIMALS = 5
_SMALLEST_PROBABILITY = 1e-7  # what Keras clips at: keeps the loss of a probability of 0 finite


@dataclass(frozen=True, kw_only=True)
class ScoringRules:
    """What the figures depend on, besides the faces."""

    uncertain_below: float  # probability below which programs answer "uncertain"
    reliability_bins: int  # equal-width bins of the calibration error
    bootstrap_samples: int  # resamples behind the intervals
    seed: int


def evaluate_faces(
    probabilities: np.ndarray, targets: np.ndarray, cluster: np.ndarray, rules: ScoringRules, *, per_class: bool = True
) -> dict[str, Any]:
    """The figures of one set of faces, rounded to 5 decimals; no value is ever null.

    probabilities: `(N, 7)`, rows sum to 1. targets: class indices `(N,)`, N >= 1, `CONTEMPT` among them where it counts
    as an error. cluster: `(N,)`, faces of one number are drawn together (`labellings.clusters`).

    loss is the mean negative log-likelihood; `*_low` and `*_high` bound a 95 % interval (`interval`). Loss, the macro
    averages and `per_class` are of the expressions that `targets` holds, contempt left aside. A class that is never
    predicted has a precision of 0. chance_accuracy is what blind guessing among seven gives, majority_class_accuracy
    what always naming the most frequent class does. accuracy_when_certain is absent when no face reaches it.
    """
    probabilities = probabilities.astype(np.float64)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct, named = predicted == targets, targets != CONTEMPT
    certain = confidence >= rules.uncertain_below
    losses = negative_log_likelihood(probabilities[named], targets[named])
    confusion = confusion_matrix(targets, predicted)
    support, claimed = confusion[:NUM_CLASSES].sum(axis=1), confusion.sum(axis=0)
    measured = measures(confusion)
    drawn = measures(resampled_confusions(targets, predicted, cluster, rules.bootstrap_samples, rules.seed))
    count = len(np.unique(cluster))

    figures: dict[str, Any] = {"n": len(targets)}
    if named.any():
        figures["loss"] = losses.mean()
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        figures |= _with_interval(name, measured[name], drawn[name], count)
    figures["chance_accuracy"] = named.mean() / NUM_CLASSES
    figures["majority_class_accuracy"] = support.max() / len(targets)
    figures["ece"] = expected_calibration_error(confidence, correct, rules.reliability_bins)
    figures["coverage"] = certain.mean()
    if certain.any():
        figures["accuracy_when_certain"] = correct[certain].mean()
    if per_class:
        figures["per_class"] = {
            EXPRESSIONS[code]: {
                "n": int(support[code]),
                **_with_interval("recall", measured["recall"][code], drawn["recall"][:, code], support[code]),
                **_with_interval("precision", measured["precision"][code], drawn["precision"][:, code], claimed[code]),
                "f1": measured["f1"][code],
                "ece": expected_calibration_error(probabilities[:, code], targets == code, rules.reliability_bins),
            }
            for code in np.flatnonzero(support).tolist()
        }
    return rounded(figures)


def evaluate_split(
    probabilities: np.ndarray, labels: pd.DataFrame, rules: ScoringRules, *, per_class: bool = True
) -> dict[str, Any]:
    """`evaluate_faces` of every section of a split that has faces: each labelling, and the main ones again as
    `<section>_without_copies` where the labels have the column `copy_in_train`: the pictures without an exact or near
    copy in the train part as it was before copies were removed.

    labels: FaceSet labels, one row per row of `probabilities`.
    """
    cluster = clusters(labels)
    return {
        name: evaluate_faces(probabilities[rows], targets, cluster[rows], rules, per_class=per_class)
        for name, (targets, rows) in split_sections(labels).items()
    }


def headline(figures: Mapping[str, Any], main: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """The few figures that `dvc metrics` and `dvc exp` show; names are short because 120 columns hold them all.

    fer+, fer, expw: accuracy by FER+'s majority (8 classes), FER2013's own labels, and on each other source. f1, ece,
    of validation, on which choices are made: means over the sources of macro F1 and of the expected calibration error,
    by the sections of `main` (see `labellings.main_sections`).
    """
    names = {"ferplus": "fer+", "fer2013": "fer"} | {name: name for source, name in main.items() if source != "fer2013"}
    content = {
        short: {key: figures[split][name]["accuracy"] for name, key in names.items() if name in figures[split]}
        for short, split in (("test", "test"), ("val", "validation"))
    }
    for short, long in (("f1", "macro_f1"), ("ece", "ece")):
        content["val"][short] = float(np.mean([figures["validation"][name][long] for name in main.values()]))
    return {name: {key: round(value, 4) for key, value in row.items()} for name, row in content.items()}


def compare(first_right: np.ndarray, second_right: np.ndarray) -> dict[str, float]:
    """Two models on the same faces: on how many only one is right, and p of McNemar's exact test (Psychometrika 12,
    1947) that both are right equally often. Bool `(N,)` each."""
    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    p = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    return {"only_first_right": only_first, "only_second_right": only_second, "mcnemar_p": float(f"{p:.2g}")}


def negative_log_likelihood(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-ln of each face's probability for its true class, `(N,)`; its mean is Keras's crossentropy."""
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.maximum(chosen, _SMALLEST_PROBABILITY))


def confusion_matrix(targets: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, int64 `(8, 7)`: rows are the true class, contempt the last, columns the predicted one."""
    shape = (NUM_CLASSES + 1, NUM_CLASSES)
    return np.bincount(targets * NUM_CLASSES + predicted, minlength=shape[0] * shape[1]).reshape(shape)


def measures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy (mean recall) and macro F1 `(...)`, recall, precision and F1 `(..., 7)` of confusion
    matrices `(..., 8, 7)`. Means over the classes that have faces; the recall of others is NaN."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)  # the shorter side: contempt has no hits
    support = confusion[..., :NUM_CLASSES, :].sum(axis=-1)
    claimed = confusion.sum(axis=-2)
    classes = np.maximum(np.count_nonzero(support, axis=-1), 1)
    f1 = np.where(support > 0, 2 * hits / np.maximum(support + claimed, 1), 0.0)
    return {
        "accuracy": hits.sum(axis=-1) / confusion.sum(axis=(-2, -1)),
        "balanced_accuracy": (hits / np.maximum(support, 1)).sum(axis=-1) / classes,
        "macro_f1": f1.sum(axis=-1) / classes,
        "recall": np.where(support > 0, hits / np.maximum(support, 1), np.nan),
        "precision": hits / np.maximum(claimed, 1),
        "f1": f1,
    }


def resampled_confusions(
    targets: np.ndarray, predicted: np.ndarray, cluster: np.ndarray, samples: int, seed: int
) -> np.ndarray:
    """Confusion matrices `(samples, 8, 7)` of faces drawn by whole clusters, with replacement (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 3.8)."""
    number = np.unique(cluster, return_inverse=True)[1]
    count, cells = number.max() + 1, (NUM_CLASSES + 1) * NUM_CLASSES
    entries = (np.ones(len(targets)), (number, targets * NUM_CLASSES + predicted))
    of_cluster = csr_array(entries, shape=(count, cells))
    generator = np.random.default_rng(seed)
    draws = [np.bincount(generator.integers(0, count, count), minlength=count) @ of_cluster for _ in range(samples)]
    return np.stack(draws).reshape(samples, NUM_CLASSES + 1, NUM_CLASSES)


def interval(value: float, drawn: np.ndarray, count: int) -> tuple[float, float]:
    """95 % interval: percentiles of the resampled values `drawn`.

    Where all resamples are alike (0, 1, faces of one photo) they say nothing, so there it is Wilson's (JASA 22, 1927)
    of `count` draws.
    """
    if not count:
        return 0.0, 1.0
    if value in (0, 1) or np.nanmin(drawn) == np.nanmax(drawn):
        wilson = binomtest(round(value * count), int(count)).proportion_ci(method="wilson")
        return float(wilson.low), float(wilson.high)
    low, high = np.nanquantile(drawn, (0.025, 0.975)).tolist()
    return low, high


def _with_interval(name: str, value: np.ndarray, drawn: np.ndarray, count: int) -> dict[str, float]:
    low, high = interval(float(value), drawn, count)
    return {name: float(value), f"{name}_low": low, f"{name}_high": high}


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Plain Python numbers: counts and texts as they are, all else with 5 decimals."""
    plain: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            plain[name] = rounded(value)
        else:
            plain[name] = value if isinstance(value, int | str) else round(float(value), DECIMALS)
    return plain
