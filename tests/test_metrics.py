"""The figures and labellings, against scikit-learn, published counts and the slow way of doing it."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from src.datasets.ferplus import VOTES_FILE, parse_votes
from src.evaluation.calibration import expected_calibration_error
from src.evaluation.labellings import CONTEMPT, by_majority, by_most_votes, clusters, main_sections
from src.evaluation.metrics import (
    ScoringRules,
    compare,
    confusion_matrix,
    evaluate_faces,
    evaluate_split,
    interval,
    measures,
    resampled_confusions,
)
from src.expressions import EXPRESSIONS
from src.faceset import OTHER_VOTES, VOTES

RULES = ScoringRules(uncertain_below=0.4, reliability_bins=15, bootstrap_samples=500, seed=42)


def figures_of(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    return evaluate_faces(probabilities, targets, np.arange(len(targets)), RULES)


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


@pytest.mark.parametrize("contempt", [0, 60], ids=["named", "contempt"])
@pytest.mark.parametrize("classes", [tuple(range(7)), (0, 3, 6)], ids=["all classes", "three of the classes"])
def test_figures_agree_with_scikit_learn(classes: tuple[int, ...], contempt: int) -> None:
    """Contempt counts as an error and claims no class of its own in the averages."""
    probabilities, targets = guesses(700, classes=classes)
    targets[:contempt] = CONTEMPT
    predicted = probabilities.argmax(axis=1)
    figures = figures_of(probabilities, targets)

    expected = {
        "accuracy": sklearn_metrics.accuracy_score(targets, predicted),
        "balanced_accuracy": np.mean(
            sklearn_metrics.recall_score(targets, predicted, labels=classes, average=None, zero_division=0)
        ),
        "macro_f1": sklearn_metrics.f1_score(targets, predicted, labels=classes, average="macro", zero_division=0),
        "loss": sklearn_metrics.log_loss(targets[contempt:], probabilities[contempt:], labels=range(7)),
        "chance_accuracy": (700 - contempt) / 700 / 7,
        "majority_class_accuracy": np.bincount(targets[contempt:]).max() / 700,
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
        code = classes[place]
        expected_error = expected_calibration_error(probabilities[:, code], targets == code, 15)
        assert row["ece"] == pytest.approx(expected_error, abs=1e-5)


def test_coverage_and_accuracy_when_certain() -> None:
    probabilities = np.full((4, 7), 0.1, np.float32)
    probabilities[[0, 1, 2, 3], [0, 1, 2, 3]] = 0.4
    probabilities[3] = 1 / 7
    figures = figures_of(probabilities, np.array([0, 1, 6, 6]))  # 0.4 is certain, 1/7 is not
    assert figures["coverage"] == 0.75
    assert figures["accuracy_when_certain"] == pytest.approx(2 / 3, abs=1e-5)


@pytest.mark.parametrize("targets", [[5], [5, 5, 5], [0, 5]], ids=["one face", "one class", "two classes"])
def test_every_figure_is_finite(targets: list[int]) -> None:
    """On tiny sets, where nothing is certain, and where all that is certain is wrong."""
    doubtful = figures_of(np.full((len(targets), 7), 1 / 7), np.array(targets))
    assert "accuracy_when_certain" not in doubtful
    wrong = figures_of(np.eye(7)[[1] * len(targets)], np.array(targets))
    assert wrong["loss"] == pytest.approx(16.11810, abs=1e-5)  # -ln 1e-7
    for number in [*numbers(doubtful), *numbers(wrong)]:
        assert isinstance(number, int | float) and np.isfinite(number)


def test_nothing_and_everything_have_an_interval() -> None:
    """Newcombe, Statistics in Medicine 17, 1998; Brown, Cai and DasGupta, Statistical Science 16, 2001"""
    assert interval(0.0, np.zeros(9), 10) == pytest.approx((0, 0.2775), abs=5e-5)
    assert interval(1.0, np.ones(9), 10) == pytest.approx((0.7225, 1), abs=5e-5)
    assert interval(0.0, np.zeros(9), 0) == (0, 1)
    assert interval(0.625, np.full(9, 0.625), 8) == pytest.approx((0.3057, 0.8632), abs=5e-5)  # faces of one photo


def test_copies_do_not_narrow_an_interval() -> None:
    """Every face four times over is no more evidence than every face once."""
    probabilities, targets = guesses(200)
    once = evaluate_faces(probabilities, targets, np.arange(200), RULES)
    copies = np.arange(800) // 4
    four_times = evaluate_faces(probabilities[copies], targets[copies], copies, RULES)
    taken_for_others = evaluate_faces(probabilities[copies], targets[copies], np.arange(800), RULES)
    for name in ("accuracy", "macro_f1"):
        assert four_times[f"{name}_low"] == once[f"{name}_low"]
        width, too_narrow = (row[f"{name}_high"] - row[f"{name}_low"] for row in (once, taken_for_others))
        assert too_narrow < 0.6 * width


def test_bootstrap_intervals_cover_the_true_value() -> None:
    """Of 95 % intervals from 100 fresh samples of photos with two faces, at least 90 % must hold the true value."""
    probabilities, targets = guesses(50_000)
    rng = np.random.default_rng(3)
    predicted = probabilities.argmax(axis=1)
    alike = rng.uniform(size=len(targets)) < 0.5  # the second face of a photo is a copy of the first, or another one
    second = np.where(alike, np.arange(len(targets)), rng.permutation(len(targets)))
    pairs = np.stack([np.arange(len(targets)), second], axis=1)
    population = measures(confusion_matrix(targets[pairs.ravel()], predicted[pairs.ravel()]))
    hits = {"accuracy": 0, "macro_f1": 0}
    for seed in range(100):
        rows = pairs[rng.integers(0, len(pairs), 200)].ravel()
        drawn = measures(resampled_confusions(targets[rows], predicted[rows], np.arange(400) // 2, 200, seed))
        for name in hits:
            low, high = np.quantile(drawn[name], (0.025, 0.975))
            hits[name] += bool(low <= population[name] <= high)
    assert min(hits.values()) >= 90, hits


def test_clusters_tie_copies_and_faces_of_one_photo() -> None:
    labels = pd.DataFrame(
        {
            "image_name": ["a", "b", "c", "d", "e", "f"],
            "group": ["p", "p", "q", "q", "r", "a"],  # a photo may be called as a picture is
            "copy_of": ["", "", "b", "", "elsewhere", "elsewhere"],
        }
    )
    number = clusters(labels)
    assert (number[:4] == number[0]).all()  # a and b by their photo, c as a copy of b, d by c's photo
    assert number[4] == number[5] != number[0]


def voted(*rows: str) -> pd.DataFrame:
    """One digit per person's vote: seven expressions, contempt, unknown, no face."""
    table = pd.DataFrame([[int(digit) for digit in row] for row in rows], columns=[*VOTES, *OTHER_VOTES])
    return table.assign(source="fer2013", expression="sad", label_source="ferplus")


def test_labellings_of_votes_by_hand() -> None:
    labels = voted(
        "6100003000",  # angry, two thirds of what is left
        "4000104010",  # of 8 votes left half are angry: not more than half
        "0000000721",  # contempt
        "0000002080",  # unknown
        "0000000000",  # nobody voted
    )
    assert [column.tolist() for column in by_majority(labels)] == [[0, CONTEMPT], [0, 2]]
    assert [column.tolist() for column in by_majority(labels, 7)] == [[0], [0]]
    # Of equal votes the first in FER+'s order counts: neutral before angry.
    assert [column.tolist() for column in by_most_votes(labels)] == [[0, 6, CONTEMPT], [0, 1, 2]]


@pytest.mark.skipif("FER_REAL_DATA" not in os.environ, reason=f"FER_REAL_DATA names no folder with {VOTES_FILE}")
def test_official_numbers_of_pictures() -> None:
    """As FER+'s authors count them, before copies are removed."""
    votes = parse_votes(Path(os.environ["FER_REAL_DATA"], VOTES_FILE).read_bytes(), VOTES_FILE)
    for usage, numbers in {"PublicTest": [3199, 3186, 3553, 3529], "PrivateTest": [3153, 3137, 3546, 3519]}.items():
        part = votes[votes["usage"] == usage]
        functions = [partial(function, classes=n) for function in (by_majority, by_most_votes) for n in (8, 7)]
        assert [len(function(part)[0]) for function in functions] == numbers


def test_sections_of_a_split() -> None:
    probabilities, targets = guesses(60)
    labels = pd.DataFrame(
        {
            "image_name": [f"{number}" for number in range(60)],
            "group": [f"{number}" for number in range(60)],
            "copy_of": "",
            "expression": np.array(EXPRESSIONS)[targets],
            "source": ["fer2013"] * 40 + ["third"] * 20,  # a data set that nobody has thought of
            "copy_in_train": [True] * 10 + [False] * 50,
        }
    )
    sections = evaluate_split(probabilities, labels, RULES)
    numbers = {"fer2013": 40, "third": 20, "all": 60}
    clean = {"fer2013_without_copies": 30, "third_without_copies": 20, "all_without_copies": 50}
    assert {name: row["n"] for name, row in sections.items()} == numbers | clean  # no votes: no section of FER+
    assert sections["fer2013_without_copies"] == figures_of(probabilities[10:40], targets[10:40])
    assert sections["third"] == sections["third_without_copies"]
    assert main_sections(labels) == {"fer2013": "fer2013", "third": "third"}
    assert main_sections(voted("6100003000")) == {"fer2013": "ferplus"}


def test_comparison_is_mcnemars_exact_test() -> None:
    first, second = np.zeros((2, 40), bool)
    first[:15], second[10:17] = True, True  # right alone: 10 and 2
    expected = round(2 * (1 + 12 + 66) / 2**12, 3)  # 0, 1 or 2 heads of 12, both tails
    assert compare(first, second) == {"only_first_right": 10, "only_second_right": 2, "mcnemar_p": expected}
    assert compare(first, first)["mcnemar_p"] == 1
