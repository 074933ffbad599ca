"""Convolutions that stay fast with a kernel for every seed."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def convolution_by_matmul(x: Array, kernel: Array, strides: Any, padding: Any, **_unused: Any) -> Array:
    """A convolution as one matrix product over patches; channels last, as in NHWC and HWIO, no dilation, no groups.

    Under `vmap` over kernels XLA makes a grouped convolution, which on a CPU takes ten times as long.
    """
    *window, _, outputs = kernel.shape
    pads = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding) if isinstance(padding, str) else padding
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    sizes = [(n - k) // s * s + 1 for n, k, s in zip(x.shape[1:-1], window, strides, strict=True)]
    taps = []
    for place in itertools.product(*map(range, window)):
        cuts = (slice(i, i + n, s) for i, n, s in zip(place, sizes, strides, strict=True))
        taps.append(x[(slice(None), *cuts)])
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, outputs)
