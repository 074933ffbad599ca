"""Highway network (Srivastava et al. 2015, arXiv 1505.00387)."""

from flax import linen as nn

from .network import Network, digits


class Highway(nn.Module):
    """Layers x + gate * (candidate - x), their gates biased towards carrying x along."""

    depth: int = 20
    width: int = 128
    carry_bias: float = -2.0
    classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        for _ in range(self.depth):
            candidate = nn.relu(nn.Dense(self.width)(x))
            gate = nn.sigmoid(nn.Dense(self.width, bias_init=nn.initializers.constant(self.carry_bias))(x))
            x = gate * candidate + (1 - gate) * x
        return nn.Dense(self.classes)(x)


# Products of three dependent signals; the gate's mean comes from its bias, not from its weights.
NETWORKS = [Network("highway", Highway, digits)]
