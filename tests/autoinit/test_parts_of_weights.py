"""Parts of one weight that meet a signal one by one are weights of their own, as the gates of recurrent cells are."""

import jax
import jax.numpy as jnp
import pytest
from pairs import pair

import qrjax

X = jax.random.normal(jax.random.key(0), (4, 6, 6, 16))


def convolved(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def cell(gates):
    i, g, _, o = gates
    return jax.nn.sigmoid(o) * jnp.tanh(jax.nn.sigmoid(i) * jnp.tanh(g))


def cut(operation, parts):
    """The gates by the parts of a kernel, or as parts of what the whole makes."""

    def network(p, x):
        if parts:
            gates = [operation(x, kernel) for kernel in jnp.split(p["gates"], 4, -1)]
        else:
            gates = jnp.split(operation(x, p["gates"]), 4, -1)
        return cell(gates) @ p["last"]

    return network


@pytest.mark.parametrize(
    ("operation", "shape"), [(jnp.matmul, (16, 64)), (convolved, (3, 3, 16, 64))], ids=["matrix", "convolution"]
)
def test_gates_by_parts_of_a_kernel_are_gates_by_the_whole(operation, shape):
    gains = []
    for parts in (False, True):
        report = qrjax.analyze(pair(cut(operation, parts), gates=shape, last=(16, 16)), X)
        gains.append((report.weights[0].gain, report.weights[-1].gain))
    assert gains[1] == pytest.approx(gains[0], rel=0.01)


def test_one_part_used_twice_is_one_weight():
    def network(p, x):
        first, again = (x @ p["gates"][:, :16] for _ in range(2))
        return (first * again) @ p["last"]

    report = qrjax.analyze(pair(network, gates=(16, 64), last=(16, 16)), X)
    assert report.weights[-1].gain == pytest.approx((16 * 3) ** -0.5, rel=0.05)  # E z^4 is 3
