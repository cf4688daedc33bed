"""Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017)."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature T in [.05, 20] for which softmax(logits / T) has the least negative log-likelihood.

    logits: float `(N, C)`. targets: class indices `(N,)`. Dividing by T never changes the predicted class.
    """
    logits = logits.astype(np.float64)

    def negative_log_likelihood(log_temperature: float) -> float:
        log_probabilities = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-log_probabilities[np.arange(len(targets)), targets].mean())

    bounds = (np.log(0.05), np.log(20.0))
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x))
