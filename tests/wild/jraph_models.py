"""Jraph's models, with Flax modules as their update functions, as in its examples."""

import functools

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .model import Wild

GRAPHS, NODES, EDGES, WIDTH = 8, 20, 80, 64


class MLP(nn.Module):
    """What updates nodes, edges or whole graphs."""

    width: int = WIDTH

    @nn.compact
    def __call__(self, *inputs):
        x = jnp.concatenate(inputs, -1) if len(inputs) > 1 else inputs[0]
        return nn.Dense(self.width)(nn.relu(nn.Dense(self.width)(x)))


class GraphNetwork(nn.Module):
    """Battaglia et al.'s three updates, twice."""

    @nn.compact
    def __call__(self, graph):
        import jraph

        for _ in range(2):
            graph = jraph.GraphNetwork(update_edge_fn=update(), update_node_fn=update(), update_global_fn=update())(
                graph
            )
        return nn.Dense(64)(graph.globals)


class Interaction(nn.Module):
    @nn.compact
    def __call__(self, graph):
        import jraph

        for _ in range(2):
            graph = jraph.InteractionNetwork(update_edge_fn=update(), update_node_fn=update())(graph)
        return nn.Dense(64)(graph.nodes)


class GAT(nn.Module):
    """Graph attention: a segment softmax over the edges that reach a node."""

    layers: int = 2

    @nn.compact
    def __call__(self, graph):
        import jraph

        for _ in range(self.layers):
            query, logit, node = nn.Dense(WIDTH), nn.Dense(1), nn.Dense(WIDTH)

            def logits(sent, received, edges, logit=logit):
                return nn.leaky_relu(logit(jnp.concatenate([sent, received, edges], -1)))

            def last(nodes, node=node):
                return nn.relu(node(nodes))

            graph = jraph.GAT(query, logits, last)(graph)
        return nn.Dense(64)(graph.nodes)


class GCN(nn.Module):
    @nn.compact
    def __call__(self, graph):
        import jraph

        for _ in range(2):
            node = nn.Dense(WIDTH)
            layer = jraph.GraphConvolution(lambda n, node=node: nn.relu(node(n)), add_self_edges=True)
            graph = layer(graph)
        return nn.Dense(64)(graph.nodes)


class DeepSets(nn.Module):
    @nn.compact
    def __call__(self, graph):
        import jraph

        graph = jraph.DeepSets(update_node_fn=update(), update_global_fn=update())(graph)
        return nn.Dense(64)(graph.globals)


def update():
    return MLP()


def graphs(seed: int):
    """A batch of random graphs."""
    import jraph

    rng = np.random.default_rng(seed)
    first = np.repeat(np.arange(GRAPHS) * NODES, EDGES)
    senders, receivers = ((first + rng.integers(0, NODES, GRAPHS * EDGES)).astype(np.int32) for _ in range(2))
    nodes, edges, whole = (
        rng.standard_normal((count, WIDTH), np.float32) for count in (GRAPHS * NODES, GRAPHS * EDGES, GRAPHS)
    )
    counts = [np.full(GRAPHS, n, np.int32) for n in (NODES, EDGES)]
    return (jraph.GraphsTuple(nodes, edges, receivers, senders, whole, *counts),)


entry = functools.partial(Wild, inputs=graphs, package="jraph")
MODELS = [
    entry("jraph_graph_network", GraphNetwork),
    entry("jraph_interaction", Interaction),
    entry("jraph_gat", GAT),
    entry("jraph_gcn", GCN),
    entry("jraph_deep_sets", DeepSets),
]
