"""Predicted probabilities and true labels -> the figures of metrics/evaluate.json.

Pure functions on arrays; nothing here reads a file. `evaluate_faces` gives the figures of one set of faces,
`evaluate_split` those of a whole split, per source, and for the pictures without a copy in the train part.
7,000 faces take about a second, nearly all of it the bootstrap.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from src.evaluation.calibration import expected_calibration_error
from src.expressions import CODE, EXPRESSIONS, NUM_CLASSES

DECIMALS = 5
SOURCES = ("fer2013", "expw")
_SMALLEST_PROBABILITY = 1e-7  # what Keras clips at: keeps the loss of a probability of 0 finite


@dataclass(frozen=True, kw_only=True)
class ScoringRules:
    """What the figures depend on, besides the faces."""

    uncertain_below: float  # probability below which programs answer "uncertain"
    reliability_bins: int  # equal-width bins of the calibration error
    bootstrap_samples: int  # resamples behind the intervals of balanced accuracy and macro F1
    seed: int


def evaluate_faces(
    probabilities: np.ndarray, targets: np.ndarray, rules: ScoringRules, *, per_class: bool = True
) -> dict[str, Any]:
    """The figures of one set of faces, rounded to 5 decimals; no value is ever null.

    probabilities: `(N, 7)`, rows sum to 1. targets: class indices `(N,)`, N >= 1.

    loss is the mean negative log-likelihood; `*_low` and `*_high` bound a 95 % interval (accuracy and recall:
    Wilson's; balanced accuracy and macro F1: bootstrap percentiles; faces are taken as independent). The macro
    averages and `per_class` run over the classes that `targets` holds. A class that is never predicted has a
    precision of 0. accuracy_when_certain is absent when no face reaches `uncertain_below`.
    """
    if len(targets) == 0 or probabilities.shape != (len(targets), NUM_CLASSES):
        raise ValueError(f"expected probabilities (N, {NUM_CLASSES}) and targets (N,), N >= 1")
    probabilities = probabilities.astype(np.float64)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    correct = predicted == targets
    certain = confidence >= rules.uncertain_below
    losses = negative_log_likelihood(probabilities, targets)
    confusion = confusion_matrix(targets, predicted)
    accuracy_low, accuracy_high = wilson_interval(int(correct.sum()), len(targets))
    averages = macro_averages(confusion)
    intervals = bootstrap_intervals(confusion, rules.bootstrap_samples, rules.seed)

    figures: dict[str, Any] = {
        "n": len(targets),
        "loss": losses.mean(),
        "accuracy": correct.mean(),
        "accuracy_low": accuracy_low,
        "accuracy_high": accuracy_high,
    }
    for name, value in averages.items():
        low, high = intervals[name]
        figures |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
    figures["ece"] = expected_calibration_error(confidence, correct, rules.reliability_bins)
    figures["coverage"] = certain.mean()
    if certain.any():
        figures["accuracy_when_certain"] = correct[certain].mean()
    if per_class:
        figures["per_class"] = {
            EXPRESSIONS[code]: _class_figures(code, confusion, probabilities[:, code], targets, losses, rules)
            for code in np.unique(targets).tolist()
        }
    return _rounded(figures)


def _class_figures(
    code: int,
    confusion: np.ndarray,
    probability: np.ndarray,
    targets: np.ndarray,
    losses: np.ndarray,
    rules: ScoringRules,
) -> dict[str, Any]:
    """The figures of one class. Its accuracy is its recall; its loss is the mean over its own faces; its ece
    compares its probability, over all faces, with how often it is the label."""
    hits, support, claimed = (int(n) for n in (confusion[code, code], confusion[code].sum(), confusion[:, code].sum()))
    recall_low, recall_high = wilson_interval(hits, support)
    return {
        "n": support,
        "loss": losses[targets == code].mean(),
        "recall": hits / support,
        "recall_low": recall_low,
        "recall_high": recall_high,
        "precision": hits / claimed if claimed else 0.0,
        "f1": 2 * hits / (support + claimed),
        "ece": expected_calibration_error(probability, targets == code, rules.reliability_bins),
    }


def evaluate_split(
    probabilities: np.ndarray, labels: pd.DataFrame, rules: ScoringRules, *, per_class: bool = True
) -> dict[str, Any]:
    """`evaluate_faces` of every section of a split that has faces.

    labels: FaceSet labels, one row per row of `probabilities`. Sections: `all`, each source, and, where the
    labels have the column `copy_in_train`, each of them again as `<section>_without_copies`: the pictures
    without an exact or near copy in the train part as it was before copies were removed.
    """
    targets = labels["expression"].map(CODE).to_numpy(np.int64)
    return {
        name: evaluate_faces(probabilities[rows], targets[rows], rules, per_class=per_class)
        for name, rows in split_sections(labels).items()
    }


def headline(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The few figures that `dvc metrics` and `dvc exp` show; names are short because 120 columns hold them all.

    fer, expw: accuracy on the labels of each source. f1, ece, of validation, on which choices are made: mean over the
    sources of macro F1 and of the expected calibration error.
    """
    content: dict[str, dict[str, float]] = {}
    for name, split in (("test", "test"), ("val", "validation")):
        sources = {source: figures[split][source] for source in SOURCES if source in figures[split]}
        content[name] = {key.removesuffix("2013"): row["accuracy"] for key, row in sources.items()}
        if name == "val":
            content[name] |= {
                short: float(np.mean([row[long] for row in sources.values()]))
                for short, long in (("f1", "macro_f1"), ("ece", "ece"))
            }
    return {name: {key: round(value, 4) for key, value in row.items()} for name, row in content.items()}


def split_sections(labels: pd.DataFrame) -> dict[str, np.ndarray]:
    """Section name -> boolean rows `(N,)`; only sections with at least one row."""
    source = labels["source"].to_numpy()
    sections = {"all": np.ones(len(labels), bool)} | {name: source == name for name in SOURCES}
    if "copy_in_train" in labels.columns:
        clean = ~labels["copy_in_train"].to_numpy(bool)
        sections |= {f"{name}_without_copies": rows & clean for name, rows in sections.items()}
    return {name: rows for name, rows in sections.items() if rows.any()}


def baselines(targets: np.ndarray) -> dict[str, float]:
    """Accuracies that need no model: a blind guess, and always naming the most frequent class of `targets`."""
    return _rounded(
        {
            "chance_accuracy": 1 / NUM_CLASSES,
            "majority_class_accuracy": np.bincount(targets, minlength=NUM_CLASSES).max() / len(targets),
        }
    )


def negative_log_likelihood(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-log of the probability given to the true class, natural logarithm, float64 `(N,)`."""
    likelihood = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.clip(likelihood, _SMALLEST_PROBABILITY, 1.0))


def confusion_matrix(targets: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts, int64 `(7, 7)`: rows are the true class, columns the predicted one."""
    cells = np.bincount(targets * NUM_CLASSES + predicted, minlength=NUM_CLASSES**2)
    return cells.reshape(NUM_CLASSES, NUM_CLASSES)


def macro_averages(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Balanced accuracy (mean recall) and macro F1 of confusion matrices `(..., 7, 7)`, each `(...)`.

    Means over the classes that have faces.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support = confusion.sum(axis=-1)
    claimed = confusion.sum(axis=-2)
    classes = np.count_nonzero(support, axis=-1)
    recall = hits / np.maximum(support, 1)
    f1 = np.where(support > 0, 2 * hits / np.maximum(support + claimed, 1), 0.0)
    return {"balanced_accuracy": recall.sum(axis=-1) / classes, "macro_f1": f1.sum(axis=-1) / classes}


def bootstrap_intervals(confusion: np.ndarray, samples: int, seed: int) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993) of the macro averages.

    Drawing n faces with replacement is one multinomial draw over the cells of the confusion matrix, so all
    resamples are one array `(samples, 7, 7)`.
    """
    n = int(confusion.sum())
    draws = np.random.default_rng(seed).multinomial(n, confusion.ravel() / n, size=samples)
    averages = macro_averages(draws.reshape(samples, *confusion.shape))
    return {name: tuple(np.quantile(values, (0.025, 0.975)).tolist()) for name, values in averages.items()}


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, JASA 22, 1927): unlike p ± 2 s it stays within [0, 1]."""
    z = 1.959963984540054  # 97.5 % quantile of the normal distribution
    centre = (successes + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(successes * (total - successes) / total + z * z / 4)
    # At the ends the bounds are exactly 0 and 1, which rounding would miss by 1e-16.
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == total else centre + half


def _rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Plain Python numbers: counts as they are, all else with 5 decimals."""
    return {
        name: _rounded(value)
        if isinstance(value, Mapping)
        else value
        if isinstance(value, int)
        else round(float(value), DECIMALS)
        for name, value in figures.items()
    }
