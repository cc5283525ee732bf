"""What a verifier says of solutions; apart from the verifier, so that runs without one need no torch."""

from dataclasses import dataclass

import numpy as np

# The score of a model that is asked itself whether its answer is correct (models/selfasked.py).
P_TRUE = "p_true"


@dataclass(frozen=True, slots=True)
class Scores:
    """Of S solutions: mean and last step probability [S], NaN without steps, and the tokens that the model read [S]."""

    mean: np.ndarray
    last: np.ndarray
    tokens: np.ndarray
