"""The calibration error, against numbers worked out by hand."""

import numpy as np
import pytest

from src.evaluation.calibration import expected_calibration_error, reliability_table, risk_coverage, smallest_threshold


def test_reliability_table_by_hand() -> None:
    confidence = np.array([0.55, 0.65, 0.75, 0.95, 0.85])
    table = reliability_table(confidence, np.array([True, False, True, True, True]), bins=4)

    assert table["faces"].tolist() == [3, 2]  # empty bins are left out; 0.75 belongs to the bin that it closes
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.9])
    assert table["accuracy"].tolist() == pytest.approx([2 / 3, 1.0])


def test_bins_of_equally_many_faces() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 203) ** 4
    table = reliability_table(confidence, rng.uniform(size=203) < confidence, 4, equal_counts=True)
    assert sorted(table["faces"]) == [50, 51, 51, 51]
    assert table["confidence"].is_monotonic_increasing
    assert (table["confidence"] * table["faces"]).sum() == pytest.approx(confidence.sum())


def test_threshold_from_which_on_answers_are_right_so_often() -> None:
    confidence, came_true = np.array([0.25, 0.5, 0.65, 0.9]), np.array([False, True, False, True])
    curve = risk_coverage(confidence, came_true).set_index("threshold")
    assert curve.loc[[0, 0.25, 0.26, 0.5, 0.65, 0.9], "coverage"].tolist() == [1, 1, 0.75, 0.75, 0.5, 0.25]
    assert curve.loc[[0, 0.26, 0.51, 0.66], "accuracy"].tolist() == pytest.approx([0.5, 2 / 3, 0.5, 1])
    assert curve.index.max() == 0.9  # beyond it nothing is answered
    assert smallest_threshold(curve.reset_index(), 0.6) == {"threshold": 0.26, "coverage": 0.75}
    assert smallest_threshold(curve.reset_index(), 0.9) == {"threshold": 0.66, "coverage": 0.25}
    assert smallest_threshold(risk_coverage(confidence, ~came_true), 0.9) == {}


@pytest.mark.parametrize(
    ("confidence", "came_true", "expected"),
    [
        # bins of a quarter: 3/5 * |2/3 - 0.65| + 2/5 * |1 - 0.9|
        ([0.55, 0.65, 0.75, 0.95, 0.85], [1, 0, 1, 1, 1], 0.6 * (2 / 3 - 0.65) + 0.4 * 0.1),
        ([1.0], [0], 1.0),
        ([0.5, 0.5], [1, 0], 0.0),
        ([0.0], [0], 0.0),
    ],
    ids=["by hand", "sure and wrong", "half sure, half right", "probability zero"],
)
def test_expected_calibration_error(confidence: list[float], came_true: list[int], expected: float) -> None:
    error = expected_calibration_error(np.array(confidence), np.array(came_true, bool), bins=4)
    assert error == pytest.approx(expected)
