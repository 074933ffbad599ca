"""Message passing on random graphs (Gilmer et al. 2017, arXiv 1704.01212)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .network import Network

GRAPHS, NODES, EDGES = 8, 24, 96  # nodes and edges of each graph


class Graph(nn.Module):
    """Rounds of messages along the edges, summed at their receivers; the mean over each graph's nodes."""

    rounds: int = 3
    width: int = 128
    classes: int = 10

    @nn.compact
    def __call__(self, nodes, senders, receivers, graphs):
        x = nn.Dense(self.width)(nodes)
        for _ in range(self.rounds):
            messages = nn.relu(nn.Dense(self.width)(jnp.concatenate([x[senders], x[receivers]], axis=-1)))
            received = jax.ops.segment_sum(messages, receivers, len(nodes))
            x = nn.relu(nn.Dense(self.width)(jnp.concatenate([x, received], axis=-1)))
        counts = jax.ops.segment_sum(jnp.ones(len(nodes)), graphs, GRAPHS)
        return nn.Dense(self.classes)(jax.ops.segment_sum(x, graphs, GRAPHS) / counts[:, None])


def inputs(seed: int):
    rng = np.random.default_rng(seed)
    first = np.repeat(np.arange(GRAPHS) * NODES, EDGES)
    senders, receivers = (first + rng.integers(0, NODES, GRAPHS * EDGES) for _ in range(2))
    graphs = np.repeat(np.arange(GRAPHS), NODES)
    nodes = rng.standard_normal((GRAPHS * NODES, 64), np.float32)
    return nodes, senders.astype(np.int32), receivers.astype(np.int32), graphs.astype(np.int32)


# How many messages a node sums is data: four on average here, none for one in fifty. Messages to one node share its
# half of the concatenation and have a positive mean, so the sum's power grows with the square of the number.
NETWORKS = [Network("graph", Graph, inputs)]
