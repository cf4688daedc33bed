"""How far probabilities can be trusted: the reliability curve and the calibration errors made from it.

A calibrated model is right about 80 % of the faces to which it gives 80 %. Faces are sorted into equal-width
bins of probability; in each bin, the mean probability is compared with the fraction that came true.
"""

import numpy as np
import pandas as pd


def reliability_table(confidence: np.ndarray, came_true: np.ndarray, bins: int) -> pd.DataFrame:
    """One row per bin that holds faces, in rising order.

    confidence: probabilities `(N,)`. came_true: bool `(N,)`. Columns: low and high (the bin's bounds; the upper
    one belongs to the bin, and 0 to the first), confidence (mean), accuracy (fraction that came true), faces.
    """
    confidence = confidence.astype(np.float64)
    position = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    faces = np.bincount(position, minlength=bins)
    used = np.flatnonzero(faces)
    return pd.DataFrame(
        {
            "low": used / bins,
            "high": (used + 1) / bins,
            "confidence": np.bincount(position, confidence, bins)[used] / faces[used],
            "accuracy": np.bincount(position, came_true, bins)[used] / faces[used],
            "faces": faces[used],
        }
    )


def expected_calibration_error(confidence: np.ndarray, came_true: np.ndarray, bins: int) -> float:
    """Mean distance between confidence and accuracy, weighted by faces.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3, for the probability of the
    answer. With the probability of one class on every face, and where that class is the label, it is that class's
    term of the classwise error of Kull et al., "Beyond temperature scaling", NeurIPS 2019.
    """
    table = reliability_table(confidence, came_true, bins)
    gap = (table["accuracy"] - table["confidence"]).abs()
    return float((gap * table["faces"]).sum() / table["faces"].sum())
