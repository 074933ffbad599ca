"""The network of the demo, and the initializers it compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.linear import default_kernel_init
from jax import Array, lax

import qrjax

CLASSES = 10
FEATURES = (32, 64, 64)

KernelInit = Callable[..., Array]
INITIALIZERS: dict[str, KernelInit] = {
    "Flax default": default_kernel_init,
    "he_normal_qr()": qrjax.he_normal_qr(),
    "he_normal_hash()": qrjax.he_normal_hash(),
}


class Classifier(nn.Module):
    """Three 3 x 3 convolutions, the last two of stride 2, and a dense layer: images to logits."""

    kernel_init: KernelInit = default_kernel_init

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = images
        for layer, features in enumerate(FEATURES):
            convolution = nn.Conv(
                features, (3, 3), 2 if layer else 1,
                kernel_init=self.kernel_init, conv_general_dilated=convolution_by_matmul,
            )  # fmt: skip
            x = nn.relu(convolution(x))
        return nn.Dense(CLASSES, kernel_init=self.kernel_init)(x.reshape(len(x), -1))


def parameters() -> int:
    """How many numbers a `Classifier` holds."""
    variables = jax.eval_shape(Classifier().init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


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
