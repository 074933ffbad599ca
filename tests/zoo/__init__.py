"""A zoo of small but real architectures, on which AutoInit's predictions are tested.

Tests find it as `from zoo import NETWORKS`: pytest puts the folder of `conftest.py` on the path.
"""

from . import (
    convnext,
    decoder,
    densenet,
    experts,
    functions,
    graph,
    highway,
    large,
    mixer,
    mlp,
    mobilenet,
    nnx_transformer,
    postnorm,
    recurrent,
    resnet,
    seq2seq,
    unet,
    vae,
    vgg,
    vit,
)
from .large import HUGE
from .network import Network

__all__ = ["ALIKE", "HUGE", "LARGE", "NETWORKS", "Network"]

_PERCEPTRONS = (mlp, highway)
_CONVOLUTIONS = (vgg, resnet, densenet, mobilenet, convnext, unet)
_TOKENS = (vit, decoder, mixer, experts, postnorm)
_OTHERS = (recurrent, seq2seq, graph, vae, nnx_transformer, functions)
_FAMILIES = (*_PERCEPTRONS, *_CONVOLUTIONS, *_TOKENS, *_OTHERS)

NETWORKS = {network.name: network for family in _FAMILIES for network in family.NETWORKS}
# Others of their families have the same layers, in another number or with another activation or head.
ALIKE = ("mlp_relu", "mlp_selu", "resnet_free", "densenet_free", "efficientnet", "vit_class", "nnx_mlp")
LARGE = {network.name: network for network in large.LARGE}
