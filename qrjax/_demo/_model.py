"""The network of the demo, and the initializers it compares."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.linear import default_kernel_init
from jax import Array

import qrjax
from qrjax._experiments._convolution import convolution_by_matmul

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
