"""Images of bytes, standardized."""

from __future__ import annotations

import numpy as np

from qrjax._datasets._dataset import Array

LEVELS = np.arange(256)


def standardized(train: Array, test: Array) -> tuple[Array, Array]:
    """Both as float32, each channel less the mean of its training pixels and divided by their deviation.

    Args:
      train, test: uint8 (n, height, width, channels), possibly views of another order.

    Raises:
      ValueError: if a channel's training pixels are all equal.
    """
    tables = [_table(np.bincount(channel.ravel(), minlength=256)) for channel in np.moveaxis(train, -1, 0)]
    return _looked_up(train, tables), _looked_up(test, tables)


def _table(counts: Array) -> Array:
    """What each level becomes: from counts, so it does not depend on the order of a sum of millions."""
    mean = (counts * LEVELS).sum() / counts.sum()
    stddev = np.sqrt((counts * (LEVELS - mean) ** 2).sum() / counts.sum())
    if stddev == 0:
        raise ValueError(
            f"the training pixels of a channel are all {mean:g}; keep more images: there is no deviation to divide by"
        )
    return ((LEVELS - mean) / stddev).astype(np.float32)


def _looked_up(pixels: Array, tables: list[Array]) -> Array:
    return np.stack([table[pixels[..., channel]] for channel, table in enumerate(tables)], axis=-1)
