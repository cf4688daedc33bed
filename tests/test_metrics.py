"""The figures, against scikit-learn, published intervals and the slow way of doing it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from src.evaluation.calibration import expected_calibration_error
from src.evaluation.metrics import (
    ScoringRules,
    baselines,
    bootstrap_intervals,
    confusion_matrix,
    evaluate_faces,
    evaluate_split,
    macro_averages,
    wilson_interval,
)
from src.expressions import EXPRESSIONS

RULES = ScoringRules(uncertain_below=0.4, reliability_bins=15, bootstrap_samples=500, seed=42)


def guesses(count: int, seed: int = 0, classes: tuple[int, ...] = tuple(range(7))) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `(count, 7)` that lean to the right class, and targets drawn from `classes`."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(classes, count)
    scores = rng.normal(size=(count, 7)) + 1.5 * np.eye(7)[targets]
    odds = np.exp(scores)
    return odds / odds.sum(axis=1, keepdims=True), targets


def numbers(content: Any) -> list[Any]:
    if isinstance(content, dict):
        return [number for value in content.values() for number in numbers(value)]
    return [content]


@pytest.mark.parametrize("classes", [tuple(range(7)), (0, 3, 6)], ids=["all classes", "three of the classes"])
def test_figures_agree_with_scikit_learn(classes: tuple[int, ...]) -> None:
    probabilities, targets = guesses(700, classes=classes)
    predicted = probabilities.argmax(axis=1)
    figures = evaluate_faces(probabilities, targets, RULES)

    expected = {
        "accuracy": sklearn_metrics.accuracy_score(targets, predicted),
        "balanced_accuracy": np.mean(
            sklearn_metrics.recall_score(targets, predicted, labels=classes, average=None, zero_division=0)
        ),
        "macro_f1": sklearn_metrics.f1_score(targets, predicted, labels=classes, average="macro", zero_division=0),
        "loss": sklearn_metrics.log_loss(targets, probabilities, labels=range(7)),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert list(figures["per_class"]) == [EXPRESSIONS[code] for code in classes]
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        targets, predicted, labels=classes, zero_division=0
    )
    for place, row in enumerate(figures["per_class"].values()):
        assert row["n"] == support[place]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(
            (precision[place], recall[place], f1[place]), abs=1e-5
        )


def test_figures_of_a_class() -> None:
    probabilities, targets = guesses(700)
    row = evaluate_faces(probabilities, targets, RULES)["per_class"]["happy"]
    happy = targets == 3
    assert row["loss"] == pytest.approx(-np.log(probabilities[happy, 3]).mean(), abs=1e-5)
    assert row["recall_low"] < row["recall"] < row["recall_high"]
    assert row["ece"] == pytest.approx(expected_calibration_error(probabilities[:, 3], happy, 15), abs=1e-5)


def test_coverage_and_accuracy_when_certain() -> None:
    probabilities = np.full((4, 7), 0.1, np.float32)
    probabilities[[0, 1, 2, 3], [0, 1, 2, 3]] = 0.4
    probabilities[3] = 1 / 7
    figures = evaluate_faces(probabilities, np.array([0, 1, 6, 6]), RULES)  # 0.4 is certain, 1/7 is not
    assert figures["coverage"] == 0.75
    assert figures["accuracy_when_certain"] == pytest.approx(2 / 3, abs=1e-5)


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param([5], id="one face"),
        pytest.param([5, 5, 5], id="one class"),
        pytest.param([0, 5], id="two classes"),
    ],
)
def test_no_figure_is_null_on_tiny_sets(targets: list[int]) -> None:
    probabilities = np.full((len(targets), 7), 1 / 7)  # nothing is certain, class 0 is always predicted
    figures = evaluate_faces(probabilities, np.array(targets), RULES)
    assert "accuracy_when_certain" not in figures
    assert all(isinstance(number, int | float) and np.isfinite(number) for number in numbers(figures))


def test_loss_of_a_certain_mistake_is_finite() -> None:
    assert evaluate_faces(np.eye(7)[[1]], np.array([0]), RULES)["loss"] == pytest.approx(16.11810, abs=1e-5)  # -ln 1e-7


@pytest.mark.parametrize(
    ("successes", "total", "expected"),
    [
        # 8 of 10 and 0 of 10: Newcombe, Statistics in Medicine 17, 1998; Brown, Cai and DasGupta, 2001
        pytest.param(8, 10, (0.4902, 0.9433), id="8 of 10"),
        pytest.param(0, 10, (0.0, 0.2775), id="0 of 10"),
        pytest.param(10, 10, (0.7225, 1.0), id="10 of 10"),
        pytest.param(81, 263, (0.2553, 0.3662), id="81 of 263"),
    ],
)
def test_wilson_interval(successes: int, total: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(successes, total) == pytest.approx(expected, abs=5e-5)


def test_wilson_interval_always_holds_the_proportion() -> None:
    for total in range(1, 60):
        for successes in range(total + 1):
            low, high = wilson_interval(successes, total)
            assert 0 <= low <= successes / total <= high <= 1


def test_bootstrap_over_the_confusion_matrix_is_the_bootstrap_over_faces() -> None:
    probabilities, targets = guesses(300)
    predicted = probabilities.argmax(axis=1)
    intervals = bootstrap_intervals(confusion_matrix(targets, predicted), samples=4000, seed=1)

    rng = np.random.default_rng(2)
    one_by_one = []
    for _ in range(4000):
        rows = rng.integers(0, 300, 300)
        one_by_one.append(macro_averages(confusion_matrix(targets[rows], predicted[rows])))
    for name, interval in intervals.items():
        expected = np.quantile([averages[name] for averages in one_by_one], (0.025, 0.975))
        assert interval == pytest.approx(expected, abs=0.006)


def test_bootstrap_intervals_cover_the_true_value() -> None:
    """Of 95 % intervals from 200 fresh samples, at least 90 % must hold the value of the whole population."""
    probabilities, targets = guesses(100_000)
    predicted = probabilities.argmax(axis=1)
    population = macro_averages(confusion_matrix(targets, predicted))
    rng = np.random.default_rng(3)
    hits = {"balanced_accuracy": 0, "macro_f1": 0}
    for seed in range(200):
        rows = rng.integers(0, len(targets), 400)
        intervals = bootstrap_intervals(confusion_matrix(targets[rows], predicted[rows]), samples=300, seed=seed)
        for name, (low, high) in intervals.items():
            hits[name] += bool(low <= population[name] <= high)
    assert min(hits.values()) >= 180, hits


def test_sections_of_a_split() -> None:
    probabilities, targets = guesses(60)
    labels = pd.DataFrame(
        {
            "expression": np.array(EXPRESSIONS)[targets],
            "source": ["fer2013"] * 40 + ["expw"] * 20,
            "copy_in_train": [True] * 10 + [False] * 50,
        }
    )
    sections = evaluate_split(probabilities, labels, RULES)
    assert {name: row["n"] for name, row in sections.items()} == {
        "all": 60,
        "fer2013": 40,
        "expw": 20,
        "all_without_copies": 50,
        "fer2013_without_copies": 30,
        "expw_without_copies": 20,
    }
    assert sections["fer2013_without_copies"] == evaluate_faces(probabilities[10:40], targets[10:40], RULES)
    assert sections["expw"] == sections["expw_without_copies"]

    only_fer2013 = evaluate_split(probabilities[:40], labels[:40].drop(columns="copy_in_train"), RULES, per_class=False)
    assert list(only_fer2013) == ["all", "fer2013"]
    assert "per_class" not in only_fer2013["all"]


def test_baselines() -> None:
    assert baselines(np.array([3, 3, 3, 0])) == {"chance_accuracy": 0.14286, "majority_class_accuracy": 0.75}


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="probabilities"):
        evaluate_faces(np.zeros((3, 6)), np.zeros(3, int), RULES)


def test_same_seed_same_figures() -> None:
    probabilities, targets = guesses(200)
    assert evaluate_faces(probabilities, targets, RULES) == evaluate_faces(probabilities, targets, RULES)
