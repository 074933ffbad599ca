"""Convolutions that stay fast with a kernel for every seed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def convolution_by_matmul(x: Array, kernel: Array, strides: Any, padding: Any, **_unused: Any) -> Array:
    """A convolution as one matrix product over image patches; NHWC and HWIO, without dilation or groups.

    Under `vmap` over kernels XLA makes a grouped convolution, which on a CPU takes ten times as long.
    """
    height, width, _, outputs = kernel.shape
    pads = lax.padtype_to_pads(x.shape[1:3], (height, width), strides, padding) if isinstance(padding, str) else padding
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = ((n - k) // s * s + 1 for n, k, s in zip(x.shape[1:3], (height, width), strides, strict=True))
    taps = [x[:, i : i + rows : strides[0], j : j + columns : strides[1]] for i in range(height) for j in range(width)]
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, outputs)
