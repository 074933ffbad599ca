"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) and EfficientNet (Tan, Le 2019, arXiv 1905.11946), small."""

import jax.numpy as jnp
from flax import linen as nn

from .network import Network, images, photographs


class InvertedResidual(nn.Module):
    """Widen by 1 x 1, filter by depth, narrow by 1 x 1 without activation; the shortcut joins the narrow ends."""

    features: int
    stride: int
    expansion: int = 6

    @nn.compact
    def __call__(self, x, train: bool):
        def norm(y):
            return nn.BatchNorm(use_running_average=not train)(y)

        hidden = self.expansion * x.shape[-1]
        y = x if self.expansion == 1 else nn.relu6(norm(nn.Conv(hidden, (1, 1), use_bias=False)(x)))
        y = nn.Conv(hidden, (3, 3), self.stride, feature_group_count=hidden, use_bias=False)(y)
        y = norm(nn.Conv(self.features, (1, 1), use_bias=False)(nn.relu6(norm(y))))
        return x + y if x.shape == y.shape else y


class MobileNet(nn.Module):
    """Stages (expansion, features, blocks, stride) of inverted residuals."""

    stages: tuple[tuple[int, int, int, int], ...] = ((1, 64, 1, 1), (6, 64, 2, 1), (6, 96, 2, 2), (6, 128, 2, 2))
    head: int = 512
    classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(64, (3, 3), 2, use_bias=False)(x)
        x = nn.relu6(nn.BatchNorm(use_running_average=not train)(x))
        for expansion, features, blocks, stride in self.stages:
            for i in range(blocks):
                x = InvertedResidual(features, 1 if i else stride, expansion)(x, train)
        x = nn.Conv(self.head, (1, 1), use_bias=False)(x)
        x = nn.relu6(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(self.classes)(x.mean((1, 2)))


class MBConv(nn.Module):
    """An inverted residual with swish, squeeze-and-excitation and stochastic depth."""

    features: int
    stride: int
    expansion: int
    rate: float

    @nn.compact
    def __call__(self, x, train: bool):
        def norm(y):
            return nn.BatchNorm(use_running_average=not train)(y)

        hidden = self.expansion * x.shape[-1]
        y = x if self.expansion == 1 else nn.swish(norm(nn.Conv(hidden, (1, 1), use_bias=False)(x)))
        y = nn.Conv(hidden, (3, 3), self.stride, feature_group_count=hidden, use_bias=False)(y)
        y = nn.swish(norm(y))
        squeezed = nn.swish(nn.Conv(x.shape[-1] // 4, (1, 1))(y.mean((1, 2), keepdims=True)))
        y = y * nn.sigmoid(nn.Conv(hidden, (1, 1))(squeezed))
        y = norm(nn.Conv(self.features, (1, 1), use_bias=False)(y))
        if x.shape != y.shape:
            return y
        return x + nn.Dropout(self.rate, broadcast_dims=(1, 2, 3), deterministic=not train)(y)


class EfficientNet(nn.Module):
    """Takes pixels from 0 to 255 and standardizes them itself."""

    stages: tuple[tuple[int, int, int, int], ...] = ((1, 64, 1, 1), (6, 64, 2, 1), (6, 96, 2, 2), (6, 128, 2, 2))
    head: int = 512
    classes: int = 10
    rate: float = 0.2

    @nn.compact
    def __call__(self, x, train: bool):
        mean, stddev = jnp.array([0.485, 0.456, 0.406]), jnp.array([0.229, 0.224, 0.225])
        x = (x / 255 - mean[None, None, None]) / stddev[None, None, None]
        x = nn.Conv(64, (3, 3), 2, use_bias=False)(x)
        x = nn.swish(nn.BatchNorm(use_running_average=not train)(x))
        done, total = 0, sum(blocks for _, _, blocks, _ in self.stages)
        for expansion, features, blocks, stride in self.stages:
            for i in range(blocks):
                x = MBConv(features, 1 if i else stride, expansion, self.rate * done / total)(x, train)
                done += 1
        x = nn.Conv(self.head, (1, 1), use_bias=False)(x)
        x = nn.swish(nn.BatchNorm(use_running_average=not train)(x)).mean((1, 2))
        return nn.Dense(self.classes)(nn.Dropout(self.rate, deterministic=not train)(x))


# A filter by depth sums nine products only, so the gain differs much from channel to channel, and relu6 cuts from
# both sides. The excitation multiplies the signal by a gate made of its own global mean.
NETWORKS = [
    Network("mobilenet", MobileNet, images, {"train": True}),
    Network("efficientnet", EfficientNet, photographs, {"train": True}, ("dropout",)),
]
