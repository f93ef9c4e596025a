"""The random numbers of an operator: the same on every device, machine and day for one seed.

All of them are drawn in float64 from numpy's legacy ``RandomState``, whose streams are frozen for good.
"""

import numpy as np

from idm_lib.errors import InputError

MATRIX, PERMUTATION, HELD_BACK, MASK, ORDER = range(5)  # separate streams, so that equal seeds tie nothing together


def check_seed(seed: int, name: str = "seed") -> int:
    """Return ``seed`` as an int if it is one that numpy takes (0 … 2³² − 1), else raise."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"{name} must be a whole number from 0 to 2**32 - 1; got {seed!r}.")
    return int(seed)


def orthonormal_matrix(size: int, seed: int) -> np.ndarray:
    """A uniformly (Haar) random orthonormal matrix, (size, size), float64.

    QR of a Gaussian matrix with the signs of R's diagonal moved into Q (Mezzadri, Notices of the AMS 54(5),
    2007). The law is that of the Gaussian's polar factor, which the paper takes, at a fraction of its cost.
    """
    gaussian = np.random.RandomState([seed, MATRIX, size]).standard_normal((size, size))
    q, r = np.linalg.qr(gaussian)
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def pixel_permutation(size: int, seed: int) -> np.ndarray:
    """A uniformly random order of ``size`` pixels, (size,), int64."""
    return np.random.RandomState([seed, PERMUTATION]).permutation(size).astype(np.int64)
