"""Loops and branches: rows within them are measured, and walks of them end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import qrjax

X = jax.random.normal(jax.random.key(0), (64, 32))


def pair(function, **shapes):
    """A pair (init, apply) with normal weights of these shapes."""

    def init(key, *_):
        return {n: jax.random.normal(jax.random.fold_in(key, i), s) for i, (n, s) in enumerate(shapes.items())}

    return init, function


def layer(h, w):
    return jnp.tanh(h @ w)


@jax.custom_vjp
def own_backward(h, w):
    return layer(h, w)


own_backward.defvjp(lambda h, w: (layer(h, w), None), lambda _, g: (g, g))


def unknown(n, x):
    """The number n, which no walk can know."""
    return jnp.int32(n) + (x[0, 0] > 1e3).astype(jnp.int32)


def counted(p, x):
    return lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, layer(s[1], p["w"])), (0, x))[1]


def halting(p, x):
    """A loop whose condition has a weight of its own."""
    go = lambda s: (s[0] < 4) & ((s[1] @ p["u"]).sum() < 1e9)  # noqa: E731
    return lax.while_loop(go, lambda s: (s[0] + 1, layer(s[1], p["w"])), (0, x))[1]


def alternating(p, x):
    def step(h, i):
        # The two products are equations of the same number in their branches' programs.
        return lax.cond(i % 2 == 0, lambda h: layer(h, p["w"]), lambda h: jnp.sin(h @ p["u"]), h), None

    return lax.scan(step, x, jnp.arange(6))[0]


def layers_in_a_loop(p, x):
    return lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, lax.scan(lambda h, w: (layer(h, w), None), s[1], p["s"])[0]), (0, x)
    )[1]


W, U, S = {"w": (32, 32)}, {"u": (32, 32)}, {"s": (2, 32, 32)}
# name: (function, its weights, how often each is used, in the order of a real run)
LOOPS = {
    "fori_loop": (lambda p, x: lax.fori_loop(0, 5, lambda _, h: layer(h, p["w"]), x), W, ["w"] * 5),
    "fori_loop, unknown": (
        lambda p, x: lax.fori_loop(0, unknown(5, x), lambda _, h: layer(h, p["w"]), x), W, ["w"] * 5,
    ),
    "while_loop": (counted, W, ["w"] * 4),
    "custom_vjp in a loop": (
        lambda p, x: lax.fori_loop(0, unknown(3, x), lambda _, h: own_backward(h, p["w"]), x), W, ["w"] * 3,
    ),
    "custom_vjp in a scan": (
        lambda p, x: lax.scan(lambda h, w: (own_backward(h, w), None), x, p["s"])[0], S, [("s", 0), ("s", 1)],
    ),
    "reversed scan": (
        lambda p, x: lax.scan(lambda h, w: (layer(h, w), None), x, p["s"], reverse=True)[0], S, [("s", 1), ("s", 0)],
    ),
    "scan in a loop": (layers_in_a_loop, S, [("s", 0), ("s", 1)] * 3),
}  # fmt: skip


@pytest.mark.few("fori_loop, unknown", "custom_vjp in a scan", "while_loop")
@pytest.mark.parametrize("name", LOOPS)
def test_rows_of_loops_are_measured(name):
    function, shapes, order = LOOPS[name]
    network = pair(function, **shapes)
    variables = qrjax.autoinit(network, X, seed=1)
    found, h = {}, X
    for use in order:
        w = variables[use] if isinstance(use, str) else variables[use[0]][use[1]]
        y = h @ w
        found.setdefault(use, []).append(float((y**2).mean()))
        h = jnp.tanh(y)
    rows = qrjax.measure(network, variables, X).weights
    measured = sorted(row.measured_second_moment for row in rows)
    assert measured == pytest.approx(sorted(np.mean(m) for m in found.values()), rel=1e-4)
    assert all(abs(row.octaves) < 0.2 for row in rows)


@pytest.mark.parametrize(
    ("function", "shapes"), [(halting, W | {"u": (32, 1)}), (alternating, W | U)], ids=["halting", "alternating"]
)
def test_conditions_and_branches_have_rows_of_their_own(function, shapes):
    network = pair(function, **shapes)
    rows = qrjax.measure(network, qrjax.autoinit(network, X), X).weights
    assert {row.weight for row in rows} == set(shapes)
    assert all(abs(row.octaves) < (0.2 if row.weight == "w" else 0.6) for row in rows)
    made = qrjax.calibrate(network, network[0](jax.random.key(1)), X, target=2.0)
    for row in qrjax.measure(network, made, X).weights:
        assert row.measured_second_moment == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("chosen", [0, 1])
def test_weights_of_a_branch_that_the_sample_input_does_not_take_are_sized(chosen):
    def function(p, x, which):
        return lax.switch(which, [lambda x: layer(x, p["w"]), lambda x: jnp.sin(x @ p["u"])], x) @ p["v"]

    network = pair(function, **W, **U, v=(32, 32))
    report = qrjax.analyze(network, X, np.int32(chosen))
    gains = {row.weight: row.gain for row in report.weights}
    assert gains["w"] == pytest.approx(32**-0.5, rel=0.02)
    assert gains["u"] == pytest.approx(32**-0.5, rel=0.02)
    other = next(row for row in report.weights if row.weight == "uw"[chosen])
    assert "a branch that the sample input does not take" in other.notes
    measured = qrjax.measure(network, qrjax.autoinit(network, X, np.int32(chosen)), X, np.int32(1 - chosen))
    assert all(abs(row.octaves) < 0.2 for row in measured.weights if row.weight != "wu"[chosen])


def test_a_scan_of_no_steps_leaves_its_weights_out():
    def run(p, x):
        return lax.scan(lambda h, w: (layer(h, w), h), x, p["s"][:0])[0] @ p["w"]

    network = pair(run, **W, **S)
    assert [row.weight for row in qrjax.measure(network, qrjax.autoinit(network, X), X).weights] == ["w"]


def notes(function, **shapes):
    x = jax.ShapeDtypeStruct(X.shape, X.dtype)
    return [note for row in qrjax.analyze(pair(function, **shapes), x).weights for note in row.notes]


def test_the_length_of_a_loop_is_what_its_condition_says():
    def shrinking(p, x):
        return lax.while_loop(lambda h: jnp.abs(h).mean() > 0.1, lambda h: 0.4 * h, x) @ p["w"]

    # |x| has the mean .8, then .32, .13 and .05.
    assert "a loop whose length depends on data: 3 steps assumed" in notes(shrinking, w=(32, 32))


def test_walks_of_endless_loops_end_and_say_so():
    def endless(p, x):
        return lax.while_loop(lambda h: h.sum() < 1e9, lambda h: 1.1 * h + 0.1 * layer(h, p["w"]), x) @ p["v"]

    def steady(p, x):
        return lax.while_loop(lambda h: h.sum() < 1e9, lambda h: layer(h, p["w"]), x) @ p["v"]

    assert any("until the walk's bound, though it goes on" in n for n in notes(endless, w=(32, 32), v=(32, 32)))
    assert any("until its state repeats" in n for n in notes(steady, w=(32, 32), v=(32, 32)))


def test_loops_that_are_mapped_end_each_by_itself():
    """`jax.vmap` of a loop runs until the last has ended, and keeps what the others have."""

    def init(key, _x):
        return {"w": jax.random.normal(key, (32, 32)), "last": jax.random.normal(key, (32, 32))}

    def apply(params, x):
        def one(x):
            small = lambda state: (state[0] < 3) & (jnp.sum(state[1] ** 2) < 500)  # noqa: E731
            return jax.lax.while_loop(small, lambda s: (s[0] + 1, s[1] + jnp.tanh(s[1] @ params["w"])), (0, x))[1]

        return jax.vmap(one)(x) @ params["last"]

    x = jax.random.normal(jax.random.key(0), (8, 32)) * np.array([1, 1, 1, 1, 9, 9, 9, 9], np.float32)[:, None]
    with jax.numpy_dtype_promotion("standard"):
        variables = qrjax.autoinit((init, apply), x)
        measured = qrjax.measure((init, apply), variables, x)
        assert measured[-1].measured_second_moment == pytest.approx(float(jnp.mean(apply(variables, x) ** 2)), rel=1e-5)
        qrjax.calibrate((init, apply), variables, x)
