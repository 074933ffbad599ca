"""What the experiments choose from, by name, for those who list it and train nothing: this file loads no JAX."""

from __future__ import annotations

# The paper's ten.
INITIALIZERS = (
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal",
    "random_uniform", "random_normal", "truncated_normal",
)  # fmt: skip
# What each source of randomness is, in words for tables and help.
SOURCES = {
    "random": "jax.nn.initializers: the baseline",
    "sobol": "the _qr builders in their default layout",
    "sequence": "the _qr builders in the paper's order: a Sobol' dimension for every kernel, row by row",
    "hash": "the _hash builders",
    "autoinit": "qrjax.autoinit: the initializer's distribution, and gains from the signal",
    "stable": "qrjax.autoinit with target='stable'",
    "calibrate": "jax.nn.initializers, then qrjax.calibrate on training examples; of orthogonal ones LSUV",
}
# What draws the same distribution at the same scale, and so trains at the same rate.
TWINS = ("random", "sobol", "sequence", "hash")
# The source of an initializer of a person's own, which has this mark in its name: "module:factory".
OWN, MARK = "own", ":"
