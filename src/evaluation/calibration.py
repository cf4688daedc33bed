"""How far probabilities can be trusted: reliability, calibration error, and the threshold below which to say nothing.

A calibrated model is right about 80 % of the faces to which it gives 80 %. Faces are sorted into bins of probability;
in each bin, the mean probability is compared with the fraction that came true.
"""

import numpy as np
import pandas as pd

_STEPS = 100  # thresholds 0, .01, ... .99


def reliability_table(
    confidence: np.ndarray, came_true: np.ndarray, bins: int, *, equal_counts: bool = False
) -> pd.DataFrame:
    """One row per bin that holds faces, in rising order.

    confidence: probabilities `(N,)`. came_true: bool `(N,)`. Bins are equally wide (the upper bound belongs to the bin,
    and 0 to the first), or hold equally many faces, give or take one. Columns: confidence (mean), accuracy (fraction
    that came true), faces.
    """
    confidence = confidence.astype(np.float64)
    if equal_counts:
        rank = np.argsort(np.argsort(confidence, kind="stable"))
        position = rank * bins // max(len(confidence), 1)
    else:
        position = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    faces = np.bincount(position, minlength=bins)
    used = np.flatnonzero(faces)
    return pd.DataFrame(
        {
            "confidence": np.bincount(position, confidence, bins)[used] / faces[used],
            "accuracy": np.bincount(position, came_true, bins)[used] / faces[used],
            "faces": faces[used],
        }
    )


def expected_calibration_error(confidence: np.ndarray, came_true: np.ndarray, bins: int) -> float:
    """Mean distance between confidence and accuracy over equally wide bins, weighted by faces.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3, for the probability of the
    answer. With the probability of one class on every face, and where that class is the label, it is that class's
    term of the classwise error of Kull et al., "Beyond temperature scaling", NeurIPS 2019.
    """
    table = reliability_table(confidence, came_true, bins)
    gap = (table["accuracy"] - table["confidence"]).abs()
    return float((gap * table["faces"]).sum() / table["faces"].sum())


def risk_coverage(confidence: np.ndarray, came_true: np.ndarray) -> pd.DataFrame:
    """What is answered, and how well, as the threshold `uncertain_below` rises by hundredths (El-Yaniv and Wiener,
    JMLR 11, 2010). Columns: threshold, coverage (share of the faces answered), accuracy (of those)."""
    thresholds = np.arange(_STEPS) / _STEPS
    answered = len(confidence) - np.searchsorted(np.sort(confidence), thresholds)
    right = came_true.sum() - np.searchsorted(np.sort(confidence[came_true]), thresholds)
    table = pd.DataFrame({"threshold": thresholds, "coverage": answered / max(len(confidence), 1)})
    return table.assign(accuracy=right / np.maximum(answered, 1))[answered > 0]


def smallest_threshold(curve: pd.DataFrame, accuracy: float) -> dict[str, float]:
    """The threshold and coverage of the first row of a `risk_coverage` curve that is right so often; empty if none."""
    enough = curve[curve["accuracy"] >= accuracy]
    return {name: float(enough[name].iloc[0]) for name in ("threshold", "coverage") if len(enough)}
