"""When verdicts are looked at, and how an error is shared among the looks.

A look that may end the weighing is a chance to be wrong. The looks see nested samples, so that their errors overlap: equal
errors at every look add up to less than their sum. The shares below are those equal errors, as parts of the whole one-sided
error, for Student's t over normal replicates (twelve million simulated series; `bench/scripts/error_rates.py --shares`
prints them), less a fifth for replicates that are not normal. They are Pocock's boundary (Biometrika 64, 1977,
191-199) for t statistics with few degrees of freedom.
"""

import math

import numpy as np

LOOKS = (4, 6, 8, 12, 16, 24)
"""Replicates after which verdicts are looked at."""

ERRORS = (0.05, 0.01, 0.001, 0.0001)
_MARGIN = 0.8
_SHARES: dict[int, tuple[float, ...]] = {
    1: (1.0, 1.0, 1.0, 1.0),
    2: (0.620, 0.564, 0.534, 0.500),
    3: (0.472, 0.410, 0.376, 0.333),
    4: (0.370, 0.314, 0.283, 0.250),
    5: (0.313, 0.262, 0.232, 0.200),
    6: (0.265, 0.221, 0.194, 0.167),
}
"""By the number of planned looks, at each of ERRORS; the last column is Bonferroni's bound, which holds below it too."""


def looks_within(replicates: int) -> tuple[int, ...]:
    """The looks that a plan of so many replicates reaches; before the first look there is no verdict."""
    return tuple(look for look in LOOKS if look <= replicates)


def per_look_error(error: float, planned: int = LOOKS[-1]) -> float:
    """The one-sided error of a single look such that all looks planned within `planned` replicates keep to `error`.

    Interpolated in the logarithm of the error; above the first column its share, below the last Bonferroni's.
    """
    shares = _SHARES[max(1, len(looks_within(planned)))]
    at = [-math.log(each) for each in ERRORS]
    return _MARGIN * error * float(np.interp(-math.log(error), at, shares))
