"""Residual networks (He et al. 2015, arXiv 1512.03385): basic and bottleneck blocks, three ways to normalize."""

from functools import partial

from flax import linen as nn

from .network import Network, images


class Norm(nn.Module):
    """Batch, group or no normalization."""

    kind: str
    train: bool
    zero: bool = False  # start with scale 0, so that the residual branch adds nothing (Goyal et al. 2017)

    @nn.compact
    def __call__(self, x):
        scale_init = nn.initializers.zeros if self.zero else nn.initializers.ones
        if self.kind == "batch":
            return nn.BatchNorm(use_running_average=not self.train, momentum=0.9, scale_init=scale_init)(x)
        return nn.GroupNorm(32, scale_init=scale_init)(x) if self.kind == "group" else x


class Basic(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, projected where the shape changes."""

    features: int
    stride: int
    norm: partial
    zero: bool = False

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(self.features, (3, 3), self.stride, use_bias=False)(x)
        y = nn.relu(self.norm()(y))
        y = self.norm(zero=self.zero)(nn.Conv(self.features, (3, 3), use_bias=False)(y))
        if x.shape != y.shape:
            x = self.norm()(nn.Conv(self.features, (1, 1), self.stride, use_bias=False)(x))
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions, the last four times as wide."""

    features: int
    stride: int
    norm: partial
    zero: bool = False

    @nn.compact
    def __call__(self, x):
        y = nn.relu(self.norm()(nn.Conv(self.features, (1, 1), use_bias=False)(x)))
        y = nn.relu(self.norm()(nn.Conv(self.features, (3, 3), self.stride, use_bias=False)(y)))
        y = self.norm(zero=self.zero)(nn.Conv(4 * self.features, (1, 1), use_bias=False)(y))
        if x.shape != y.shape:
            x = self.norm()(nn.Conv(4 * self.features, (1, 1), self.stride, use_bias=False)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stages of blocks, each stage twice as wide and half as large, a global mean and a linear head."""

    norm: str
    stages: tuple[int, ...] = (2, 2, 2)
    block: type[nn.Module] = Basic
    zero: bool = False
    large: bool = False  # ImageNet's stem: 7 x 7, stride 2, maximum pool
    classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool):
        norm = partial(Norm, self.norm, train)
        x = nn.Conv(64, (7, 7), 2, use_bias=False)(x) if self.large else nn.Conv(64, (3, 3), use_bias=False)(x)
        x = nn.relu(norm()(x))
        if self.large:
            x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for stage, blocks in enumerate(self.stages):
            for i in range(blocks):
                x = self.block(64 * 2**stage, 2 if stage and not i else 1, norm, self.zero)(x)
        return nn.Dense(self.classes)(x.mean((1, 2)))


# Every sum adds two signals that both come from x, one of them rectified, so variances do not add up; relu after
# the sum gives the shortcut a mean that grows along the blocks. Without normalization nothing ever takes it away.
NETWORKS = [
    Network(f"resnet_{kind}", partial(ResNet, kind), images, {"train": True}) for kind in ("batch", "group", "free")
]
