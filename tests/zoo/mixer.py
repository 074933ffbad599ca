"""MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601)."""

from flax import linen as nn

from .network import Network, images


class Perceptron(nn.Module):
    """Widen, gelu, narrow: along the last axis."""

    hidden: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(self.hidden)(x)))


class Mixer(nn.Module):
    """Perceptrons across the patches and across the channels by turns."""

    depth: int = 6
    width: int = 128
    patch: int = 4
    across_patches: int = 64
    across_channels: int = 512
    classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (self.patch, self.patch), self.patch, padding="VALID")(x)
        x = x.reshape(len(x), -1, self.width)
        for _ in range(self.depth):
            y = Perceptron(self.across_patches)(nn.LayerNorm()(x).swapaxes(1, 2))
            x = x + y.swapaxes(1, 2)
            x = x + Perceptron(self.across_channels)(nn.LayerNorm()(x))
        return nn.Dense(self.classes)(nn.LayerNorm()(x).mean(1))


# The weights' fan lies along the tokens in one layer, along the channels in the next: a correlation along either axis
# matters, and gelu's mean, shared by all patches of a channel, adds up.
NETWORKS = [Network("mixer", Mixer, images)]
