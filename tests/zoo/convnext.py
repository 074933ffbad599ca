"""ConvNeXt (Liu et al. 2022, arXiv 2201.03545)."""

from flax import linen as nn

from .network import Network, images


class Block(nn.Module):
    """A 7 x 7 filter by depth, layer norm, an inverted bottleneck with gelu and a learned scale near 0."""

    initial_scale: float = 1e-6

    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        y = nn.Conv(features, (7, 7), feature_group_count=features)(x)
        y = nn.gelu(nn.Dense(4 * features)(nn.LayerNorm(epsilon=1e-6)(y)))
        y = nn.Dense(features)(y)
        scale = self.param("layer_scale", nn.initializers.constant(self.initial_scale), (features,))
        return x + scale[None, None, None] * y


class ConvNeXt(nn.Module):
    """Stages of blocks behind layer norms and strided patches."""

    widths: tuple[int, ...] = (96, 192)
    depths: tuple[int, ...] = (3, 3)
    classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(epsilon=1e-6)(nn.Conv(self.widths[0], (4, 4), 4, padding="VALID")(x))
        for i, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            if i:
                x = nn.Conv(width, (2, 2), 2, padding="VALID")(nn.LayerNorm(epsilon=1e-6)(x))
            for _ in range(depth):
                x = Block()(x)
        return nn.Dense(self.classes)(nn.LayerNorm(epsilon=1e-6)(x.mean((1, 2))))


# The layer scale is meant: a tool that lifts the branches to unit variance undoes the design. A 7 x 7 window on an
# image of 8 x 8, then 4 x 4, reads mostly padding.
NETWORKS = [Network("convnext", ConvNeXt, images)]
