"""A variational autoencoder (Kingma, Welling 2013, arXiv 1312.6114) of digits."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from .network import Network, digits


class VAE(nn.Module):
    """Returns the reconstruction, and the mean and log variance of the code."""

    code: int = 64

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Conv(64, (3, 3), 2)(x))
        y = nn.relu(nn.Conv(128, (3, 3), 2)(y))
        y = nn.relu(nn.Dense(256)(y.reshape(len(y), -1)))
        mean, logvar = nn.Dense(self.code)(y), nn.Dense(self.code)(y)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(self.make_rng("noise"), mean.shape)
        z = nn.relu(nn.Dense(256)(z))
        z = nn.relu(nn.Dense(2 * 2 * 128)(z)).reshape(len(z), 2, 2, 128)
        z = nn.relu(nn.ConvTranspose(64, (3, 3), (2, 2))(z))
        return nn.ConvTranspose(x.shape[-1], (3, 3), (2, 2))(z), mean, logvar


# The sample's variance is that of the mean plus E exp(logvar): one linear layer's output behind an exponential, log
# normal. One channel of real digits in: its pixels correlate, and the background is one constant.
NETWORKS = [Network("vae", VAE, digits, rngs=("noise",))]
