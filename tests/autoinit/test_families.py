"""Functions of one number at several known places: splines, polynomials, bumps; their joint law is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moments import function_agrees, normal, predicted

import qrjax

ORDER, CELLS = 3, 4
LAW = normal(64, 16)


@pytest.fixture(autouse=True)
def _broadcasts():
    """Such layers are written with numbers of axes that differ."""
    with jax.numpy_rank_promotion("allow"):
        yield


def knots():
    """Even ones on [-1, 1], and those that splines of this order need beyond."""
    return np.arange(-ORDER, CELLS + ORDER + 1, dtype=np.float32) * (2 / CELLS) - 1


def splines(x, t):
    """The basis splines by the recursion of Cox and de Boor; x and t broadcast, the knots along the last axis."""
    b = ((x >= t[..., :-1]) & (x < t[..., 1:])).astype(jnp.float32)
    for p in range(1, ORDER + 1):
        up = (x - t[..., : -p - 1]) / (t[..., p:-1] - t[..., : -p - 1])
        down = (t[..., p + 1 :] - x) / (t[..., p + 1 :] - t[..., 1:-p])
        b = up * b[..., :-1] + down * b[..., 1:]
    return b


def by_input(x):
    """A table of knots for each input."""
    return splines(x[..., None], jnp.broadcast_to(knots(), (x.shape[-1], knots().size)))


def by_edge(x):
    """A table for each pair of an input and an output, the examples last."""
    edges = jnp.einsum("ni,o->noi", x, jnp.ones(5)).reshape(len(x), -1).T
    table = jnp.broadcast_to(knots(), (len(edges), knots().size))
    return jnp.moveaxis(splines(edges[..., None], table[:, None]), 1, 2)


def rebuilt(x):
    """A spline that is the number itself where x lies on the grid: its coefficients are the knots' means."""
    t = knots()
    means = np.convolve(t, np.ones(ORDER) / ORDER, "valid")[1:-1].astype(np.float32)
    inside = jnp.clip(x, -0.99, 0.99)
    return (by_input(inside) * means).sum(-1) - inside


def by_angle(x):
    return jnp.cos(jnp.arange(6.0) * jnp.arccos(jnp.tanh(x))[..., None])


def by_recursion(x):
    """The same polynomials of Chebyshev, by the recursion in their degree."""
    t = jnp.tanh(x)
    found = [jnp.ones_like(t), t]
    for _ in range(4):
        found.append(2 * t * found[-1] - found[-2])
    return jnp.stack(found, -1)


def bumps(x):
    found = jnp.exp(-jnp.square(2 * (x[..., None] - jnp.linspace(-2, 2, 6))))
    return found / found.sum(-1, keepdims=True)


def waves(x):
    angles = x[..., None] * jnp.array([1.0, 2.0, 4.0])
    return jnp.sin(angles) ** 2 + jnp.cos(angles) ** 2 * jnp.sin(angles)


def taken(x):
    """One place of several, at which what is met again is met."""
    y = x[:, None] * jnp.array([1.0, -2.0, 3.0])[:, None]
    return (y[:, 1] + 2 * x) + jnp.squeeze(jax.lax.dynamic_slice(y.transpose(2, 1, 0), (0, 2, 0), (16, 1, 64)), 1).T


@pytest.mark.parametrize("function", [by_input, by_edge, by_angle, by_recursion, bumps, waves, taken])
def test_the_law_is_that_of_all_places(function):
    function_agrees(function, LAW)


def test_splines_sum_to_one_and_rebuild_their_number():
    assert predicted(lambda x: by_input(jnp.clip(x, -0.99, 0.99)).sum(-1), LAW).variance == pytest.approx(0, abs=1e-9)
    assert predicted(rebuilt, LAW).second_moment == pytest.approx(0, abs=1e-9)


def test_places_are_related_as_the_functions_are():
    law = predicted(lambda x: x[..., None] * jnp.array([1.0, 2.0, 3.0]), LAW)
    # Of 14/3, two places share (2 + 3 + 6)/3.
    assert law.second_moment == pytest.approx(14 / 3, rel=1e-3)
    again = predicted(lambda x: jnp.abs(x[..., None] * jnp.array([1.0, 2.0, 3.0])), LAW)
    assert again.moments[0, 0, 1] == pytest.approx(11 / 3, rel=1e-2)


def network(basis, count):
    """Layers that sum functions of their inputs, with weights for coefficients."""

    def apply(p, x):
        for i in range(3):
            x = jnp.einsum("nik,iko->no", basis(x), p[f"w{i}"])
        return x

    def init(key, _x):
        sizes = (16, 48, 48, 48)
        return {
            f"w{i}": jax.random.normal(jax.random.fold_in(key, i), (sizes[i], count, sizes[i + 1])) for i in range(3)
        }

    return init, apply


@pytest.mark.parametrize(("basis", "count"), [(by_input, CELLS + ORDER), (by_angle, 6), (bumps, 6)])
def test_networks_of_such_functions_keep_their_signal(basis, count):
    x = jax.random.normal(jax.random.key(0), (256, 16))
    model = network(basis, count)
    moment = jax.jit(lambda variables: jnp.square(model[1](variables, x)).mean())
    moments = [float(moment(qrjax.autoinit(model, x, seed=s))) for s in range(3)]
    # Of 48 outputs whose examples are alike, one draw is a third off at times.
    assert np.mean(moments) == pytest.approx(1.0, rel=0.3)


def test_a_filter_whose_input_makes_up_for_its_decay():
    """A recurrence h = a h + root(1 - a^2) x, with a decay for each channel, gives every channel the strength of x."""
    decays = jnp.linspace(0.5, 0.95, 16)

    def filtered(x):
        x = jnp.sqrt(1 - decays**2) * x
        pairs = jnp.broadcast_to(decays, x.shape), x
        return jax.lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), pairs, axis=1)[1]

    law = predicted(filtered, normal(4, 64, 16))
    powers = np.square(decays) ** np.arange(1, 65)[:, None]
    assert law.second_moment == pytest.approx(float((1 - powers).mean()), rel=1e-2)


@pytest.mark.parametrize(("count", "said"), [(500, False), (600, True)])
def test_more_places_than_are_followed_are_said(count, said):
    places = np.linspace(-2, 2, count, dtype=np.float32)
    init, apply = network(lambda x: jnp.exp(-((x[..., None] - places) ** 2)), count)
    report = qrjax.analyze((init, apply), jax.ShapeDtypeStruct((4, 16), jnp.float32))
    assert any(f"{count} known places, of which no more than 512" in finding for finding in report.findings) is said
