"""Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017) with one temperature per source.

People agree on FER+'s pictures more often than the network dares to say, and on ExpW's less often than it claims: no
one temperature serves both. What a picture looks like tells which source it resembles, so each picture gets the mean of
the sources' temperatures, weighted by the probability of the source. As with one temperature, the answer stays; only
its probability changes. Temperatures that depend on the input: Tomani et al., "Parameterized Temperature Scaling"
(2022), there by the logits.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

_STRENGTH = 0.01  # inverse of the penalty on the weights that tell sources apart; by cross-validation on validation


@dataclass(frozen=True)
class Temperatures:
    """What the inverse temperature of a picture is: exp(softmax(features @ kernel + bias) @ log_inverse).

    sources: S names. kernel: float32 `(F, S)`. bias, log_inverse: float32 `(S,)`.
    """

    sources: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray
    log_inverse: np.ndarray

    def inverse(self, features: np.ndarray) -> np.ndarray:
        """What the logits of each picture are multiplied by, `(N,)`; features: float `(N, F)`."""
        return np.asarray(np.exp(softmax(features @ self.kernel + self.bias, axis=1) @ self.log_inverse))

    def by_source(self) -> dict[str, float]:
        """The temperature of a picture that surely is of the source."""
        return {name: round(float(np.exp(-log)), 5) for name, log in zip(self.sources, self.log_inverse, strict=True)}


def fit_temperatures(
    features: np.ndarray, logits: np.ndarray, targets: np.ndarray, sources: np.ndarray
) -> Temperatures:
    """The temperatures with the least negative log-likelihood; a source of n pictures counts as sqrt(n).

    features: what the last layer sees, float `(N, F)`. logits: float `(N, C)`. targets: class indices `(N,)`.
    sources: names `(N,)`, one or more different ones.
    """
    names, which, counts = np.unique(sources, return_inverse=True, return_counts=True)
    kernel, bias = _tell_apart(features.astype(np.float64), which, len(names))
    belongs = softmax(features @ kernel + bias, axis=1)
    logits, rows, shares = logits.astype(np.float64), np.arange(len(targets)), 1 / np.sqrt(counts[which])
    shares /= shares.sum()

    def loss(log_inverse: np.ndarray) -> tuple[float, np.ndarray]:
        inverse = np.exp(belongs @ log_inverse)
        log_probabilities = log_softmax(logits * inverse[:, None], axis=1)
        mean_logit = (np.exp(log_probabilities) * logits).sum(axis=1)
        slope = shares * inverse * (mean_logit - logits[rows, targets])
        return -float(shares @ log_probabilities[rows, targets]), slope @ belongs

    bounds = [(-3.0, 3.0)] * len(names)
    log_inverse = minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Temperatures(
        tuple(map(str, names)), *(part.astype(np.float32) for part in (kernel, bias, np.asarray(log_inverse)))
    )


def _tell_apart(features: np.ndarray, which: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel `(F, S)` and bias `(S,)` of a logistic regression of the sources on standardized features."""
    if count == 1:
        return np.zeros((features.shape[1], 1)), np.zeros(1)
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=1000)
    model.fit((features - mean) / spread, which)
    weights, bias = model.coef_, model.intercept_
    if count == 2:  # one row, of the second source against the first
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.r_[0.0, bias]
    kernel = (weights / spread).T
    return kernel, bias - mean @ kernel
