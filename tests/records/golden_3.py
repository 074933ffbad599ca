"""The recipe of golden_3.json, a record of format version 3: normal quantiles that are read from tables.

    python tests/records/golden_3.py > tests/records/golden_3.json

It was run once, by the version that introduced the format, and is not run again: later versions must read the file.
A later format gets a golden file of its own.
"""

import json

import jax
import jax.numpy as jnp

import qrjax

KEY = jax.random.key(20263)


def init(key):
    """Every law of every source, and the two that were not touched."""
    qr = qrjax.he_normal_qr
    return {
        "outputs": qr()(key, (7, 32)),
        "neurons": qrjax.normal_qr(0.3, layout="neurons")(key, (3, 3, 4, 6)),
        "points": qrjax.normal_qr(layout="points", dim=3)(key, (6, 5)),
        "shuffled": qrjax.normal_qr(0.5, layout="shuffled", scramble=None)(key, (9, 11)),
        "sequence": qrjax.truncated_normal_qr(layout="sequence", scramble="shift")(key, (6, 7)),
        "hash": qrjax.normal_hash(0.3)(key, (31,)),
        "zero_mean": qrjax.he_normal_hash(zero_mean=True)(key, (7, 5)),
        "complex": qrjax.normal_hash(dtype=jnp.complex64)(key, (4, 3)),
        "bfloat16": qrjax.he_normal_hash()(key, (4, 6), jnp.bfloat16),
        "stacked": jax.vmap(lambda key: qr()(key, (4, 5)))(jax.random.split(key, 3)),
        "lopsided": qrjax.truncated_normal_hash(0.5, None, -1.0, 2.5)(key, (4, 9)),
        "uniform": qrjax.uniform_hash()(key, (4, 9)),
        "factored": qrjax.orthogonal_qr(0.7)(key, (5, 4)),
    }


def golden_init():
    """The record of `init`."""
    return qrjax.record(init, key=KEY, by="init").to_dict()


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    print(json.dumps({"init": golden_init()}, indent=1))
