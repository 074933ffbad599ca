"""Measured gradients, beside `jax.grad` by zeros that are added to the outputs of networks written out by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from pairs import pair

import qrjax

X = jax.random.normal(jax.random.key(0), (16, 24))
U = jax.random.normal(jax.random.key(1), (16, 24))


def drawn(function, **shapes):
    """A pair (init, apply) with weights of these shapes, and variables of it."""
    module = pair(function, **shapes)
    return module, module[0](jax.random.key(5))


def loss(y):
    return 0.5 * jnp.sum(y**2) + jnp.sum(U[:, : y.shape[-1]] * y)


def moment(array):
    return float(jnp.mean(jnp.abs(array) ** 2))


def layer(h, w, extra=0.0):
    return jnp.tanh(h @ w + extra)


def expected(chain, params, count):
    """Second moments of the gradients by `count` products' outputs and by the parameters."""
    zeros = jnp.zeros((count, *X.shape))
    by_params, by_zeros = jax.grad(lambda p, z: loss(chain(p, z)), (0, 1))(params, zeros)
    return jax.tree.map(moment, by_params), [moment(g) for g in by_zeros]


# -- programs: loops, branches, calls ------------------------------------------------------------------------------


def unknown(n, x):
    """The number n, which no walk can know."""
    return jnp.int32(n) + (x[0, 0] > 1e3).astype(jnp.int32)


def looped(p, x):
    return lax.fori_loop(0, unknown(3, x), lambda _, h: layer(h, p["w"]), x)


def waiting(p, x):
    return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, layer(s[1], p["w"])), (0, x))[1]


def scanned(p, x):
    return lax.scan(lambda h, _: (layer(h, p["w"]), None), x, length=3)[0]


def stacked(p, x, reverse=False):
    return lax.scan(lambda h, w: (layer(h, w), None), x, p["s"], reverse=reverse)[0]


def nested(p, x):
    """A loop of unknown length within a scan, both within calls."""
    inner = jax.jit(lambda h: lax.fori_loop(0, unknown(2, x), lambda _, h: layer(h, p["w"]), h))
    return lax.scan(lambda h, _: (jax.checkpoint(inner)(h), None), x, length=2)[0]


def alternating(p, x):
    def step(h, i):
        return lax.cond(i % 2 == 0, lambda h: layer(h, p["w"]), lambda h: layer(h, p["v"]), h), None

    return lax.scan(step, x, jnp.arange(3))[0]


W, V, S = {"w": (24, 24)}, {"v": (24, 24)}, {"s": (3, 24, 24)}
# name: (function, shapes, the weight of each use in order)
PROGRAMS = {
    "shared": (lambda p, x: layer(layer(layer(x, p["w"]), p["w"]), p["w"]), W, "www"),
    "scan": (scanned, W, "www"),
    "loop": (looped, W, "www"),
    "while": (waiting, W, "www"),
    "loop in a scan": (nested, W, "wwww"),
    "branches": (alternating, W | V, "wvw"),
    "stack": (stacked, S, "012"),
    "stack in reverse": (lambda p, x: stacked(p, x, reverse=True), S, "210"),
    "jit and remat": (lambda p, x: jax.jit(jax.checkpoint(layer))(layer(x, p["w"]), p["v"]), W | V, "wv"),
}


@pytest.mark.few("shared", "stack")
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    function, shapes, uses = PROGRAMS[name]
    module, params = drawn(function, **shapes)

    def chain(p, z):
        h = X
        for use, extra in zip(uses, z, strict=True):
            h = layer(h, p[use] if use in p else p["s"][int(use)], extra)
        return h

    by_weight, by_output = expected(chain, params, len(uses))
    rows = qrjax.measure(module, params, X, loss=loss).weights
    kinds = {use: [m for u, m in zip(uses, by_output, strict=True) if u == use] for use in uses}
    if name == "shared":  # three rows of one weight
        kinds = {(use, i): [m] for i, (use, m) in enumerate(zip(uses, by_output, strict=True))}
    assert sorted(row.measured_gradient for row in rows) == pytest.approx(
        sorted(np.mean(found) for found in kinds.values()), rel=1e-4
    )
    for row in rows:
        weight = row.path.strip("[]")
        own = by_weight.get(row.weight) if row.weight != "s" else None
        if own is None:
            stack = jax.grad(lambda p: loss(function(p, X)))(params)["s"]
            own = moment(stack[int(weight)])
        assert row.measured_weight_gradient == pytest.approx(own, rel=1e-4)
        assert row.measured_weight_gradient_norm == pytest.approx((own * 24 * 24) ** 0.5, rel=1e-4)
        assert row.measured_gradient_norm == pytest.approx((row.measured_gradient * 24) ** 0.5, rel=1e-6)


@jax.custom_vjp
def straight(h, w):
    return jnp.sign(h @ w)


straight.defvjp(lambda h, w: (straight(h, w), (h, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))


def test_a_function_with_a_derivative_of_its_own():
    def function(p, x):
        return straight(layer(x, p["w"]), p["v"])

    module, params = drawn(function, **W, **V)
    first, hidden = qrjax.measure(module, params, X, loss=loss).weights

    def chain(p, z):
        return straight(layer(X, p["w"], z[0]), p["v"])

    by_weight, by_output = expected(chain, params, 1)
    assert first.measured_gradient == pytest.approx(by_output[0], rel=1e-4)
    assert hidden.measured_gradient is None
    assert hidden.measured_gradient_norm is None
    assert any("a derivative of its own" in note for note in hidden.notes)
    assert [first.measured_weight_gradient, hidden.measured_weight_gradient] == pytest.approx(
        [by_weight["w"], by_weight["v"]], rel=1e-4
    )


@jax.custom_vjp
def saved(h, w, count):
    """As a solver of differential equations: a loop of unknown length that knows how to go back."""
    return lax.while_loop(lambda s: s[0] < count, lambda s: (s[0] + 1, layer(s[1], w)), (jnp.int32(0), h))[1]


def back(kept, g):
    h, w, _ = kept
    return *jax.vjp(lambda h, w: layer(layer(layer(h, w), w), w), h, w)[1](g), None


saved.defvjp(lambda h, w, count: (saved(h, w, count), (h, w, count)), back)


def test_a_derivative_that_is_that_of_its_program():
    module, params = drawn(lambda p, x: saved(x, p["w"], unknown(3, x)), **W)
    by_weight, by_output = expected(
        lambda p, z: layer(layer(layer(X, p["w"], z[0]), p["w"], z[1]), p["w"], z[2]), params, 3
    )
    (row,) = qrjax.measure(module, params, X, loss=loss).weights
    assert row.measured_gradient == pytest.approx(np.mean(by_output), rel=1e-4)
    assert row.measured_weight_gradient == pytest.approx(by_weight["w"], rel=1e-4)
    assert row.notes == ()


def test_branches_not_taken_have_none_and_what_reaches_nothing_has_zero():
    def function(p, x):
        never = lax.cond((x @ p["u"])[0, 0] > 1e6, lambda: layer(x, p["w"]), lambda: x)
        return never, lax.stop_gradient(layer(x, p["v"]))

    module, params = drawn(function, **W, **V, u=(24, 24))
    rows = {row.weight: row for row in qrjax.measure(module, params, X, loss=lambda y: loss(y[0]) + loss(y[1])).weights}
    assert rows["w"].measured_gradient is None
    assert rows["w"].measured_weight_gradient is None
    assert rows["v"].measured_gradient == 0.0
    assert rows["v"].measured_weight_gradient == rows["v"].measured_weight_gradient_norm == 0.0


# -- frameworks ----------------------------------------------------------------------------------------------------


class Perturbed(nn.Module):
    """Flax's own way to derivatives by what is within: `perturb` adds zeros."""

    @nn.compact
    def __call__(self, x):
        for i in range(2):
            x = nn.Dense(24, name=f"dense_{i}")(x)
            x = nn.tanh(self.perturb(f"zeros_{i}", x))
        return nn.Dense(5, name="head")(x)


def test_linen_as_flax_perturbs():
    variables = jax.jit(Perturbed().init)(jax.random.key(0), X)
    both = jax.grad(lambda v: loss(Perturbed().apply(v, X)))(variables)
    report = qrjax.measure(Perturbed(), variables, X, loss=loss)
    for i in range(2):
        row = report[f"dense_{i}"]
        assert row.measured_gradient == pytest.approx(moment(both["perturbations"][f"zeros_{i}"]), rel=1e-4)
        assert row.measured_weight_gradient == pytest.approx(moment(both["params"][f"dense_{i}"]["kernel"]), rel=1e-4)


def test_nnx():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(24, 24, rngs=rngs), nnx.Linear(24, 3, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.tanh(self.first(x)))

    model = Network(nnx.Rngs(0))
    by_weight = nnx.grad(lambda model: loss(model(X)))(model)
    report = qrjax.measure(model, nnx.state(model), X, loss=loss)
    assert report["first"].measured_weight_gradient == pytest.approx(moment(by_weight.first.kernel[...]), rel=1e-4)
    y = model(X)
    assert report["last"].measured_gradient == pytest.approx(moment(y + U[:, :3]), rel=1e-4)


def test_statistics_that_a_call_writes_have_no_cotangent():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.BatchNorm(use_running_average=False)(nn.Dense(24)(x)))

    variables = jax.jit(Network().init)(jax.random.key(0), X)
    report = qrjax.measure(Network(), variables, X, gradients=True)

    @jax.jit
    @jax.vmap
    def pulled(key):
        apply = lambda p: Network().apply(variables | {"params": p}, X, mutable=["batch_stats"])[0]  # noqa: E731
        gradient = jax.vjp(apply, variables["params"])[1](jax.random.normal(key, (16, 3)))[0]
        return jnp.mean(gradient["Dense_0"]["kernel"] ** 2)

    moments = np.asarray(pulled(jax.random.split(jax.random.key(1), 64)))
    own = report["Dense_0"].measured_weight_gradient
    assert abs(own - moments.mean()) < 4 * moments.std(), "one draw of the cotangent, among others"


# -- the random cotangent ------------------------------------------------------------------------------------------


def test_a_random_cotangent_has_a_second_moment_of_one_at_each_output():
    def function(p, x):
        ids = jnp.argmax(x, -1)
        return {"real": x @ p["w"], "ids": ids, "complex": lax.complex(x @ p["v"], x)}

    module, params = drawn(function, w=(24, 512), v=(24, 24))
    x = jax.random.normal(jax.random.key(2), (256, 24))
    report = qrjax.measure(module, params, x, gradients=True)
    real, imaginary = report.weights
    assert real.measured_gradient == pytest.approx(1.0, abs=5 * (2 / real.shape[0] / real.shape[1]) ** 0.5)
    # Of a complex number both parts together have a second moment of 1.
    assert imaginary.measured_gradient == pytest.approx(0.5, abs=5 * 0.5 * (2 / 256 / 24) ** 0.5)
    # Independent examples: the derivative by the weight adds up as their number.
    within = 5 * (2 / 24 / 512) ** 0.5 * 256
    assert real.measured_weight_gradient == pytest.approx(256 * moment(x), abs=within)


def test_the_same_key_makes_the_same_cotangent():
    module, params = drawn(lambda p, x: layer(layer(x, p["w"]), p["v"]), **W, **V)
    first, again = (qrjax.measure(module, params, X, gradients=True) for _ in range(2))
    other = qrjax.measure(module, params, X, gradients=True, rngs=jax.random.key(7))
    gradients = [[row.measured_gradient for row in found] for found in (first, again, other)]
    assert gradients[0] == gradients[1] != gradients[2]
    assert gradients[0] == pytest.approx(gradients[2], rel=0.5)


def test_complex_weights():
    def init(key, *_):
        return {"c": jax.random.normal(key, (24, 24), jnp.complex64)}

    def apply(p, x):
        return jnp.real(jnp.tanh(x.astype(jnp.complex64) @ p["c"]))

    params = init(jax.random.key(0))
    (row,) = qrjax.measure((init, apply), params, X, loss=loss).weights
    zeros = jnp.zeros(X.shape, jnp.complex64)
    by_weight, by_output = jax.grad(lambda c, z: loss(jnp.real(jnp.tanh(X.astype(jnp.complex64) @ c + z))), (0, 1))(
        params["c"], zeros
    )
    assert row.measured_gradient == pytest.approx(moment(by_output), rel=1e-4)
    assert row.measured_weight_gradient == pytest.approx(moment(by_weight), rel=1e-4)


def test_half_precision():
    module, params = drawn(lambda p, x: layer(x.astype(jnp.bfloat16), p["w"].astype(jnp.bfloat16)), **W)
    (row,) = qrjax.measure(module, params, X, gradients=True).weights
    assert 0.3 < row.measured_gradient < 1.0


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gradients": True, "loss": loss}, ValueError, "`gradients` asks for those of a random cotangent and `loss`"),
        ({"gradients": loss}, TypeError, "`gradients` must be True or False, got .*; a loss is passed as loss="),
        ({"loss": 3.0}, TypeError, "`loss` must be a function of what the model returns, got"),
        ({"loss": lambda y: y}, TypeError, "`loss` must return one real number, got"),
        ({"loss": lambda y: (loss(y), y)}, TypeError, "`loss` must return one real number, got"),
    ],
)
def test_bad_arguments(options, error, message):
    module, params = drawn(lambda p, x: layer(x, p["w"]), **W)
    with pytest.raises(error, match=message):
        qrjax.measure(module, params, X, **options)


def test_outputs_without_a_derivative():
    module, params = drawn(lambda p, x: jnp.argmax(layer(x, p["w"]), -1), **W)
    with pytest.raises(ValueError, match="`gradients` and `loss` need an output that has a derivative, but"):
        qrjax.measure(module, params, X, gradients=True)
