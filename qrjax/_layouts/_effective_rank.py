"""How many directions of a matrix carry its weights."""

from __future__ import annotations

from typing import Any

import numpy as np


def effective_rank(weights: Any) -> float:
    """The exponential of the entropy of the squared singular values' shares.

    As large as the rank where all directions carry the same, 1 where one carries all. An array of more than two axes,
    such as a convolution's kernel, counts as a matrix with a column for every entry of its last axis.

    Args:
      weights: an array of two axes or more, real or complex.

    Returns:
      A number from 1 to the smaller side; 0.0 if all weights are zero.

    Raises:
      ValueError: if `weights` has fewer than two axes or no elements, or holds a NaN or infinity.

    Example:
      >>> import numpy as np, qrjax
      >>> round(qrjax.effective_rank(np.eye(8)), 6), round(qrjax.effective_rank(np.ones((8, 8))), 6)
      (8.0, 1.0)

    Reference:
      Roy and Vetterli 2007, The effective rank, with squares in the place of their first powers.
    """
    matrix = np.asarray(weights)
    if matrix.ndim < 2 or not matrix.size:
        raise ValueError(f"`weights` must have two axes or more and elements, got the shape {matrix.shape}")
    wide = matrix.astype(np.complex128 if np.iscomplexobj(matrix) else np.float64).reshape(-1, matrix.shape[-1])
    if not np.isfinite(wide).all():
        raise ValueError("`weights` holds NaN or infinity; the effective rank is of finite weights")
    if not wide.any():
        return 0.0
    wide /= np.abs(wide).max()
    # Eigenvalues of the smaller Gram matrix: six times as fast as singular values, and what is lost of the smallest
    # ones has no share to speak of.
    tall = wide if wide.shape[0] >= wide.shape[1] else wide.T
    squares = np.linalg.eigvalsh(tall.conj().T @ tall)
    shares = squares[squares > 0] / squares[squares > 0].sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
