"""DenseNet (Huang et al. 2016, arXiv 1608.06993)."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from .network import Network, images


class DenseNet(nn.Module):
    """Blocks whose layers read all earlier outputs, concatenated; between them a 1 x 1 convolution and a mean pool."""

    normalized: bool = True
    blocks: tuple[int, ...] = (4, 4, 4)
    growth: int = 32
    classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool):
        def activate(x):
            x = nn.BatchNorm(use_running_average=not train)(x) if self.normalized else x
            return nn.relu(x)

        x = nn.Conv(2 * self.growth, (3, 3), use_bias=False)(x)
        for i, layers in enumerate(self.blocks):
            for _ in range(layers):
                y = nn.Conv(4 * self.growth, (1, 1), use_bias=False)(activate(x))
                y = nn.Conv(self.growth, (3, 3), use_bias=False)(activate(y))
                x = jnp.concatenate([x, y], axis=-1)
            if i < len(self.blocks) - 1:
                x = nn.Conv(x.shape[-1] // 2, (1, 1), use_bias=False)(activate(x))
                # Flax divides by a NumPy int64 here, which the tests' strict promotion refuses.
                with jax.numpy_dtype_promotion("standard"):
                    x = nn.avg_pool(x, (2, 2), (2, 2))
        return nn.Dense(self.classes)(activate(x).mean((1, 2)))


# The axis of channels is a mixture: pieces of unlike mean and power lie side by side, and all are functions of the
# first. The pool's mean of four neighbours loses power according to their correlation.
NETWORKS = [
    Network("densenet", DenseNet, images, {"train": True}),
    Network("densenet_free", partial(DenseNet, normalized=False), images, {"train": True}),
]
