"""The U-Net of a diffusion model (Ronneberger et al. 2015, arXiv 1505.04597; Ho et al. 2020, arXiv 2006.11239)."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .network import Network, images


def sinusoid(positions, width: int, period: float = 10_000.0):
    """Sines and cosines of `positions`, which has shape (n,), at geometric frequencies; shape (n, width)."""
    frequencies = period ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angles = positions[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class Block(nn.Module):
    """Two normalized convolutions with the time added between them, beside a shortcut."""

    features: int

    @nn.compact
    def __call__(self, x, time):
        y = nn.Conv(self.features, (3, 3))(nn.silu(nn.GroupNorm(32)(x)))
        y = y + nn.Dense(self.features)(nn.silu(time))[:, None, None, :]
        y = nn.Conv(self.features, (3, 3))(nn.silu(nn.GroupNorm(32)(y)))
        return y + (x if x.shape == y.shape else nn.Conv(self.features, (1, 1))(x))


class UNet(nn.Module):
    """Predicts the noise in the images `x` at the times `t`."""

    widths: tuple[int, ...] = (64, 128, 128)

    @nn.compact
    def __call__(self, x, t):
        time = nn.Dense(256)(nn.silu(nn.Dense(256)(sinusoid(t, 64))))
        channels, skips = x.shape[-1], []
        x = nn.Conv(self.widths[0], (3, 3))(x)
        for width in self.widths[:-1]:
            x = Block(width)(x, time)
            skips.append(x)
            x = nn.Conv(width, (3, 3), 2)(x)
        x = Block(self.widths[-1])(x, time)
        for width in reversed(self.widths[:-1]):
            x = nn.ConvTranspose(width, (4, 4), (2, 2))(x)
            x = Block(width)(jnp.concatenate([x, skips.pop()], axis=-1), time)
        return nn.Conv(channels, (3, 3))(nn.silu(nn.GroupNorm(32)(x)))


def inputs(seed: int):
    return (*images(seed), np.random.default_rng(seed).integers(0, 1000, 8).astype(np.float32))


# A transposed convolution of stride 2 fills with zeros: of its 16 taps an output sees four. A sinusoid is no random
# variable: its slow cosines are 1, its slow sines 0. A skip is a sum of two signals, its partner one layer's output.
NETWORKS = [Network("unet", UNet, inputs)]
