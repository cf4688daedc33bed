"""Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017)."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax


def equal_shares(sources: np.ndarray) -> np.ndarray:
    """Weights, float64 `(N,)` with mean 1, by which the faces of every source count the same in total."""
    _, which, counts = np.unique(sources, return_inverse=True, return_counts=True)
    return len(sources) / (len(counts) * counts[which])


def fit_temperature(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The temperature T in [.05, 20] for which softmax(logits / T) has the least negative log-likelihood.

    logits: float `(N, C)`. targets: class indices `(N,)`. weights: of the faces, `(N,)`; None = all the same.
    Dividing by T never changes the predicted class.
    """
    logits = logits.astype(np.float64)

    def negative_log_likelihood(log_temperature: float) -> float:
        log_probabilities = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-np.average(log_probabilities[np.arange(len(targets)), targets], weights=weights))

    bounds = (np.log(0.05), np.log(20.0))
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x))
