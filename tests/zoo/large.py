"""Networks of real size, for tracing only: their inputs are shapes."""

from functools import partial

import jax
import jax.numpy as jnp

from .decoder import Decoder
from .network import Network
from .resnet import Bottleneck, ResNet


def shaped(shape: tuple[int, ...], dtype, _seed: int = 0) -> tuple[jax.ShapeDtypeStruct]:
    return (jax.ShapeDtypeStruct(shape, dtype),)


# 25.6 million parameters; the last norm of each block starts with scale 0.
resnet50 = partial(ResNet, "batch", (3, 4, 6, 3), Bottleneck, zero=True, large=True, classes=1000)
# 317 million, every layer an equation of its own.
decoder_300m = partial(Decoder, 32_000, 24, 1024, 16, 2048, scanned=False)
# 103 billion, 413 GB in float32.
decoder_100b = partial(Decoder, 128_000, 80, 10_240, 80, 27_306, scanned=True)
# 70.6 billion, in the sizes of Llama 3 (arXiv 2407.21783, table 3); all that its scan needs to know follows.
decoder_70b = partial(Decoder, 128_256, 80, 8192, 64, 28_672, shared_heads=8)

LARGE = [
    Network("resnet50", resnet50, partial(shaped, (8, 224, 224, 3), jnp.float32), {"train": True}),
    Network("decoder_300m", decoder_300m, partial(shaped, (1, 1024), jnp.int32)),
]
HUGE = Network("decoder_100b", decoder_100b, partial(shaped, (1, 4096), jnp.int32))
