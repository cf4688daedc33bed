"""The calibration error, against numbers worked out by hand."""

import numpy as np
import pytest

from src.evaluation.calibration import expected_calibration_error, reliability_table


def test_reliability_table_by_hand() -> None:
    confidence = np.array([0.55, 0.65, 0.75, 0.95, 0.85])
    table = reliability_table(confidence, np.array([True, False, True, True, True]), bins=4)

    assert table["low"].tolist() == [0.5, 0.75]  # empty bins are left out; 0.75 belongs to the bin that it closes
    assert table["high"].tolist() == [0.75, 1.0]
    assert table["faces"].tolist() == [3, 2]
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.9])
    assert table["accuracy"].tolist() == pytest.approx([2 / 3, 1.0])


def test_expected_calibration_error_by_hand() -> None:
    confidence = np.array([0.55, 0.65, 0.75, 0.95, 0.85])
    came_true = np.array([True, False, True, True, True])
    # bins of a quarter: 3/5 * |2/3 - 0.65| + 2/5 * |1 - 0.9|
    assert expected_calibration_error(confidence, came_true, bins=4) == pytest.approx(0.6 * (2 / 3 - 0.65) + 0.4 * 0.1)


@pytest.mark.parametrize(
    ("confidence", "came_true", "expected"),
    [
        pytest.param([1.0, 1.0], [True, True], 0.0, id="sure and right"),
        pytest.param([1.0, 1.0], [False, False], 1.0, id="sure and wrong"),
        pytest.param([0.5, 0.5], [True, False], 0.0, id="half sure, half right"),
        pytest.param([0.0, 0.0], [False, False], 0.0, id="probability zero"),
    ],
)
def test_extremes(confidence: list[float], came_true: list[bool], expected: float) -> None:
    assert expected_calibration_error(np.array(confidence), np.array(came_true), bins=15) == expected


def test_probabilities_that_come_true_as_often_as_they_say_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 200_000)
    came_true = rng.uniform(size=len(confidence)) < confidence
    assert expected_calibration_error(confidence, came_true, bins=15) < 0.01
    assert expected_calibration_error(confidence**0.5, came_true, bins=15) > 0.05
