"""Layers stacked in one array: each is a weight like any other, whatever axis they lie along, whoever slices them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import qrjax

WIDTH, DEPTH = 16, 4
X = jax.ShapeDtypeStruct((32, WIDTH), jnp.float32)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(WIDTH, use_bias=False)(nn.relu(x)), None


class Scanned(nn.Module):
    axis: int

    @nn.compact
    def __call__(self, x):
        options = {"variable_axes": {"params": self.axis}, "split_rngs": {"params": True}}
        x = nn.scan(Layer, length=DEPTH, **options)(name="layers")(x, None)[0]
        return nn.Dense(2, name="head")(nn.relu(x))


class Unrolled(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(DEPTH):
            x = Layer(name=f"layer_{i}")(x, None)[0]
        return nn.Dense(2, name="head")(nn.relu(x))


class NnxScanned(nnx.Module):
    def __init__(self, axis, rngs):
        @nnx.split_rngs(splits=DEPTH)
        @nnx.vmap(in_axes=0, out_axes=axis)
        def layers(rngs):
            return nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs)

        self.axis, self.layers, self.head = axis, layers(rngs), nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(self.axis, nnx.Carry), out_axes=nnx.Carry)
        def forward(layer, x):
            return layer(nnx.relu(x))

        return self.head(nnx.relu(forward(self.layers, x)))


def pair(forward, shape=(DEPTH, WIDTH, WIDTH)):
    def init(key, _):
        head = jax.random.normal(jax.random.fold_in(key, 1), (WIDTH, 2))
        return {"layers": jax.random.normal(key, shape), "head": head}

    def apply(params, x):
        return nn.relu(forward(params["layers"], x)) @ params["head"]

    return init, apply


def by_scan(layers, x):
    return lax.scan(lambda y, w: (nn.relu(y) @ w, None), x, layers)[0]


def by_index(layers, x):
    for i in range(DEPTH):
        x = nn.relu(x) @ layers[i]
    return x


def by_loop(layers, x):
    return lax.fori_loop(0, DEPTH, lambda i, y: nn.relu(y) @ layers[i], x)


def nested(layers, x):
    return lax.scan(lambda y, inner: (by_scan(inner, y), None), x, layers)[0]


# For each: the model, where its stack is, the axes of the layers and that of the inputs.
STACKS = {
    "Linen, axis 0": (Scanned(0), ("params", "layers", "Dense_0", "kernel"), (0,), 1),
    "Linen, axis 1": (Scanned(1), ("params", "layers", "Dense_0", "kernel"), (1,), 0),
    "Linen, axis -1": (Scanned(-1), ("params", "layers", "Dense_0", "kernel"), (2,), 0),
    "NNX, axis 0": (NnxScanned(0, nnx.Rngs(0)), ("layers", "kernel"), (0,), 1),
    "NNX, axis 1": (NnxScanned(1, nnx.Rngs(0)), ("layers", "kernel"), (1,), 0),
    "lax.scan": (pair(by_scan), ("layers",), (0,), 1),
    "lax.scan, (out, in)": (pair(lambda w, x: by_scan(w.swapaxes(1, 2), x)), ("layers",), (0,), 2),
    "lax.scan, transposed within": (
        pair(lambda w, x: lax.scan(lambda y, w: (nn.relu(y) @ w.T, None), x, w)[0]), ("layers",), (0,), 2
    ),
    "lax.scan, backwards": (pair(lambda w, x: by_scan(jnp.flip(w, 0), x)), ("layers",), (0,), 1),
    "lax.scan, two deep": (pair(nested, (2, 2, WIDTH, WIDTH)), ("layers",), (0, 1), 2),
    "by index": (pair(by_index), ("layers",), (0,), 1),
    "fori_loop": (pair(by_loop), ("layers",), (0,), 1),
}  # fmt: skip


def stack_of(variables, steps):
    if isinstance(variables, nnx.Module):
        variables = nnx.to_pure_dict(nnx.state(variables))
    for step in steps:
        variables = variables[step]
    return np.asarray(variables, np.float64)


@pytest.mark.few("Linen, axis -1", "NNX, axis 1", "lax.scan, (out, in)", "lax.scan, two deep")
@pytest.mark.parametrize("name", STACKS)
def test_each_layer_has_the_gain_and_the_axes_of_the_same_layer_by_itself(name):
    model, steps, layers, inputs = STACKS[name]
    stack = stack_of(qrjax.autoinit(model, X, layout="neurons", distribution="normal"), steps)
    # The first layer meets relu of a normal input, later ones that of an output; zero-sum neurons do not see its mean.
    gain = np.sqrt(1 / WIDTH / (0.5 - 0.5 / np.pi))
    others = tuple(a for a in range(stack.ndim) if a not in layers)
    np.testing.assert_allclose(stack.std(others), gain, rtol=0.1, err_msg="the layers' standard deviations")
    (outputs,) = [a for a in others if a != inputs]
    over_inputs, over_outputs = (np.abs(stack.sum(a)).mean() for a in (inputs, outputs))
    assert over_inputs < 0.2 * over_outputs, (
        f"a neuron's weights sum to {over_inputs:.3f}, an input's {over_outputs:.3f}"
    )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scan_has_the_laws_of_its_unrolled_twin(axis):
    scanned, unrolled = (qrjax.analyze(m, X).weights for m in (Scanned(axis), Unrolled()))
    assert [row.path for row in scanned] == [*(f"layers/Dense_0[{i}]" for i in range(DEPTH)), "head"]
    for one, other in zip(scanned, unrolled, strict=True):
        assert (one.fan, one.gain) == (other.fan, other.gain), one.path
        assert one.second_moment == pytest.approx(other.second_moment, rel=1e-6)


def test_layers_are_drawn_like_weights_by_themselves():
    """The same key, the same shape and the same axes give the same weights, whatever the stack's axis."""
    stacks = [qrjax.autoinit(Scanned(a), X, source="hash")["params"]["layers"]["Dense_0"]["kernel"] for a in (0, 1, 2)]
    np.testing.assert_array_equal(stacks[0], jnp.moveaxis(stacks[1], 1, 0))
    np.testing.assert_array_equal(stacks[0], jnp.moveaxis(stacks[2], 2, 0))


@pytest.mark.few("0")
@pytest.mark.parametrize("axis", [0, 1])
def test_a_record_gives_stacked_layers_back(axis):
    options = {"seed": 3, "layout": "neurons"}
    record = qrjax.Record.from_json(qrjax.record(Scanned(axis), X, **options).to_json())
    kernel = qrjax.autoinit(Scanned(axis), X, **options)["params"]["layers"]["Dense_0"]["kernel"]
    path = "layers/Dense_0/kernel"
    np.testing.assert_array_equal(record.initial(path), kernel)
    for index in ((1, 2, 3), (slice(1, 3), ..., slice(None, None, -2)), ([0, -1], [1, 1], 5)):
        np.testing.assert_array_equal(record.weight(path, index), kernel[index], err_msg=str(index))


MASK = (np.arange(WIDTH)[:, None] + np.arange(WIDTH)[None] + np.arange(DEPTH)[:, None, None]) % 4 < 2
TRANSFORMED = {
    "masked": lambda w: jnp.where(MASK, w, 0.0),
    "scaled and masked": lambda w: (0.5 * w) * MASK.astype(np.float32),
    "squashed": jnp.tanh,
}


@pytest.mark.parametrize("name", [*list(TRANSFORMED)[:2], pytest.param("squashed", marks=pytest.mark.slow)])
def test_layers_of_a_transformed_stack_have_a_scale_each(name):
    def scanned(layers, x):
        return by_scan(TRANSFORMED[name](layers), x)

    def unrolled(layers, x):
        return by_index(TRANSFORMED[name](layers), x)

    one, other = (qrjax.analyze(pair(f), X).weights for f in (scanned, unrolled))
    assert [row.gain for row in one] == pytest.approx([row.gain for row in other], rel=5e-3)
    assert all(row.second_moment == pytest.approx(1.0, rel=5e-3) for row in one)
