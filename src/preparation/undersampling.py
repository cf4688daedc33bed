"""Drop a fraction of the faces of frequent classes from train, at random and seeded."""

from collections import Counter

import numpy as np
from imblearn.under_sampling import RandomUnderSampler

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.params import UndersampleParams

# Reference: DSPRO2 report on FER2013 + ExpW, which kept 67,096 of 127,680 faces.
REFERENCE_FRACTIONS = {"happy": 0.7, "neutral": 0.7, "sad": 0.25}


def drop_fractions(params: UndersampleParams) -> dict[str, float]:
    """Fraction of each class that the policy drops; classes not named lose nothing."""
    if params.policy == "reference":
        return dict(REFERENCE_FRACTIONS)
    return params.drop_fraction.model_dump() if params.policy == "custom" else {}


def undersample(targets: np.ndarray, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Rows to keep, int64, ascending.

    targets: class indices `(N,)`. A class of n faces loses round(n * fraction) of them. Raises UserError when a class
    would lose them all.
    """
    kept: dict[int, int] = {}
    for code, count in Counter(targets.tolist()).items():
        name = EXPRESSIONS[code]
        kept[code] = count - round(count * fractions.get(name, 0.0))
        if not kept[code]:
            raise UserError(
                f"undersample drops {fractions[name]:g} of the {count} faces of {name}, which leaves none. "
                f"Lower undersample.drop_fraction.{name}, or set undersample.policy=none."
            )
    sampler = RandomUnderSampler(sampling_strategy=kept, random_state=seed)
    rows, _ = sampler.fit_resample(np.arange(len(targets)).reshape(-1, 1), targets)
    return np.sort(rows.ravel()).astype(np.int64)
