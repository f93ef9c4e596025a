"""From a scanner's numbers to grey: one range for a whole volume."""

import numpy as np

#: Ends of the range of a volume without a window, in per cent of its values.
PERCENTILES = (0.1, 99.9)
WHITE = np.iinfo(np.uint16).max
_DARK, _SHARE = 0.1, 0.05  # of a nearly empty slice


def percentile_range(values: np.ndarray) -> tuple[float, float]:
    """The :data:`PERCENTILES` of a volume's finite values; (0, 0) if it has none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 0.0
    low, high = np.percentile(finite, PERCENTILES)
    return float(low), float(high)


def grey(values: np.ndarray, low: float, high: float, inverted: bool = False) -> np.ndarray:
    """Values (H, W) in the scanner's units → uint16 (H, W), black at ``low`` and below, white at ``high`` and above.

    Args:
        values: real; what is not finite is no part of the picture and becomes black.
        low, high: where they are equal, what lies above is white and the rest black.
        inverted: white at ``low`` and black at ``high`` instead.
    """
    with np.errstate(invalid="ignore"):
        if high > low:
            share = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
        else:
            share = np.where(np.isnan(values), np.nan, values > low)
    return np.nan_to_num((1 - share if inverted else share) * WHITE).round().astype(np.uint16)


def grey_volume(values: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """Values (S, H, W) → uint16 (S, H, W) by the file's window, or else by the volume's own percentiles."""
    low, high = window or percentile_range(values)
    return np.stack([grey(plane, low, high) for plane in values])


def nearly_empty(pixels: np.ndarray) -> bool:
    """Whether a slice shows next to nothing: less than 5 % of its pixels are brighter than a tenth of the range.

    Such are the slices of air beyond either end of a body. Training leaves them out.

    Args:
        pixels: (H, W) uint16.
    """
    return bool((pixels > _DARK * WHITE).mean() < _SHARE)
