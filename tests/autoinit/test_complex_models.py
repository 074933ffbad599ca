"""Complex numbers: second moments E|z|^2 of what is predicted and of what is drawn; weights that are complex."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from moments import drawn, normal, predicted

import qrjax

X = normal(16, 32)
RELU = jax.nn.relu
DECAYS = np.exp(np.linspace(-3, -0.02, 16) + 1j * np.linspace(0, 1.5, 16)).astype(np.complex64)


def low(x):
    """Its lowest waves alone."""
    return jnp.fft.irfft(jnp.fft.rfft(x)[:, :6], n=32)


def written(x, y):
    """A block written into zeros, and another beside it."""
    z = jnp.zeros((16, 17), jnp.complex64).at[:, :6].set(lax.complex(x, y)[:, :6])
    return jnp.fft.irfft(z.at[:, 10:12].set(lax.complex(x, y)[:, 10:12]), n=32)


def remembered(x, y):
    """A linear recurrence by associative_scan."""
    u = lax.complex(x, y)[:, :16]
    decays = jnp.broadcast_to(DECAYS[None], u.shape)
    return lax.associative_scan(lambda a, b: (b[0] * a[0], b[0] * a[1] + b[1]), (decays, u))[1]


def decaying(x, of, reverse=False):
    """A function of the states of a recurrence with decays from .2 to .98."""
    decays = jnp.linspace(0.2, 0.98, 16)
    _, states = lax.scan(lambda h, u: (decays * h + u,) * 2, jnp.zeros(16), x.T[:, :16] + 0.1, reverse=reverse)
    return of(states)


# Functions of independent normal arrays.
FUNCTIONS = {
    "complex": lax.complex,
    "1j": lambda x, y: x.astype(jnp.complex64) + 1j * y.astype(jnp.complex64),
    "real": lambda x, y: lax.complex(x, 2 * y).real,
    "imag": lambda x, y: lax.complex(x, 2 * y).imag,
    "conj": lambda x, y: jnp.conj(lax.complex(x + 1, y)) - lax.complex(x, y),
    "abs": lambda x, y: jnp.abs(lax.complex(x, y)),
    "abs of exp": lambda x, y: jnp.abs(jnp.exp(lax.complex(0.5 * x, y))),
    "exp": lambda x, y: jnp.exp(lax.complex(0.3 * x, y)),
    "log": lambda x, y: jnp.log(lax.complex(x + 3, y)),
    "mul": lambda x, y: lax.complex(x, x + 1) * lax.complex(y, 2 * y),
    "mul by a number": lambda x, y: lax.complex(x, y) * (0.3 + 2j),
    "square": lambda x, y: lax.complex(x, y) ** 2,
    "cube": lambda x, y: lax.complex(x, y) ** 3,
    "|z|^2": lambda x, y: (lax.complex(x, y) * jnp.conj(lax.complex(x, y))).real,
    "div": lambda x, y: lax.complex(x, y) / (3 - 1j),
    "neg": lambda x, y: -lax.complex(x, y + 1),
    "sum": lambda x, y: lax.complex(x, y + 1).sum(1),
    "structure": lambda x, y: jnp.concatenate([lax.complex(x, y).T[4:9], jnp.ones((3, 16), jnp.complex64)]),
    "dot": lambda x, y: lax.complex(x, x) @ lax.complex(y, 2 * y).T,
    "dot by real": lambda x, y: lax.complex(x, x + 1) @ y.T.astype(jnp.complex64),
    "fft": lambda x: jnp.fft.fft(RELU(x)),
    "fft, real part": lambda x: jnp.fft.fft(RELU(x)).real,
    "fft, imaginary part": lambda x: jnp.fft.fft(RELU(x)).imag,
    "fft2, real part": lambda x: jnp.fft.fft2(RELU(x)).real,
    "fftn of a part": lambda x: jnp.fft.fft(RELU(x), axis=0)[1:5],
    "rfft": lambda x: jnp.fft.rfft(RELU(x)),
    "rfft, orthogonal": lambda x: jnp.fft.rfft(RELU(x), norm="ortho"),
    "rfft, low": lambda x: jnp.fft.rfft(RELU(x))[:, :5],
    "rfft, high": lambda x: jnp.fft.rfft(RELU(x))[:, 5:],
    "rfft, odd": lambda x: jnp.fft.rfft(RELU(x[:, :31])),
    "irfft of rfft": lambda x: jnp.fft.irfft(jnp.fft.rfft(RELU(x))),
    "ifft of fft": lambda x: jnp.fft.ifft(jnp.fft.fft(RELU(x))),
    "low-pass": low,
    "low-pass, mean": lambda x: low(x).mean(1),
    "convolution by waves": lambda x, y: jnp.fft.irfft(jnp.fft.rfft(x, n=64) * jnp.fft.rfft(y, n=64), n=64)[:, :32],
    "blocks into zeros": written,
    "associative_scan": remembered,
    "associative_scan, mean over time": lambda x, y: remembered(x, y).real.mean(0),
    "scan, mean over time": lambda x: decaying(x, lambda states: states.mean(0)),
    "scan, backwards": lambda x: decaying(x, lambda states: states.mean(0), reverse=True),
}


@pytest.mark.some(3)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_moments(name):
    function = FUNCTIONS[name]
    laws = [X] * function.__code__.co_argcount if hasattr(function, "__code__") else [X, X]
    found = jax.jit(jax.vmap(function))(*drawn(laws, 128))
    moment = float(jnp.square(jnp.abs(found)).mean())
    law = predicted(function, *laws)
    assert law.second_moment == pytest.approx(moment, rel=0.06 if name != "cube" else 0.15)
    assert law.shape == found.shape[1:]
    assert law.dtype == found.dtype


# -- layers -----------------------------------------------------------------------------------------------------------


class Recurrence(nn.Module):
    """Orvieto et al. 2023: a diagonal recurrence whose inputs are scaled so that all states are alike."""

    states: int = 48
    stepwise: bool = False

    def decays(self):
        spread = lambda key, shape: jnp.log(-0.5 * jnp.log(jax.random.uniform(key, shape, minval=0.2, maxval=0.98)))  # noqa: E731
        size = self.param("size", spread, (self.states,))
        angle = self.param("angle", lambda key, shape: 6.28 * jax.random.uniform(key, shape), (self.states,))
        return jnp.exp(lax.complex(-jnp.exp(size), angle))

    def pair(self, name, shape):
        return lax.complex(
            *(self.param(f"{name}_{part}", nn.initializers.lecun_normal(), shape) for part in ("a", "b"))
        )

    @nn.compact
    def __call__(self, x):
        decays, out = self.decays(), self.pair("out", (self.states, 8))
        scale = self.param("scale", lambda _: jnp.log(jnp.sqrt(1 - jnp.abs(decays) ** 2)))
        into = self.pair("into", (x.shape[-1], self.states)) * jnp.exp(scale)[None].astype(jnp.complex64)
        u = x.astype(jnp.complex64) @ into
        if self.stepwise:

            def step(h, u):
                h = decays[None] * h + u
                return h, h

            start = jnp.zeros((x.shape[0], self.states), jnp.complex64)
            states = jnp.swapaxes(lax.scan(step, start, jnp.swapaxes(u, 0, 1))[1], 0, 1)
        else:
            many = jnp.broadcast_to(decays[None, None], u.shape)
            join = lambda a, b: (b[0] * a[0], b[0] * a[1] + b[1])  # noqa: E731
            states = lax.associative_scan(join, (many, u), axis=1)[1]
        return (states @ out).real


class Discretized(nn.Module):
    """As S5: complex weights in one real array, inputs scaled by the step of each state."""

    states: int = 96

    @nn.compact
    def __call__(self, x):
        rates = lax.complex(-0.5 * jnp.ones(self.states), jnp.pi * jnp.arange(self.states, dtype=jnp.float32))
        draw = lambda key, shape: jax.random.uniform(key, shape, minval=-6.9, maxval=-2.3)  # noqa: E731
        steps = jnp.exp(self.param("log_step", draw, (self.states, 1))[:, 0]).astype(jnp.complex64)
        b = self.param("b", nn.initializers.lecun_normal(), (self.states, x.shape[-1], 2))
        c = self.param("c", nn.initializers.lecun_normal(), (8, self.states, 2))
        decays = jnp.exp(rates * steps)
        into = ((decays - 1) / rates)[:, None] * lax.complex(b[..., 0], b[..., 1])

        def one(x):
            u = jax.vmap(lambda v: into @ v.astype(jnp.complex64))(x)
            many = decays[None] * jnp.ones((x.shape[0], 1), jnp.complex64)
            h = lax.associative_scan(lambda a, b: (b[0] * a[0], b[0] * a[1] + b[1]), (many, u))[1]
            return jax.vmap(lambda v: (lax.complex(c[..., 0], c[..., 1]) @ v).real)(h)

        return jax.vmap(one)(x)


class Mixing(nn.Module):
    """As FNet: waves along places and features take the place of attention."""

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(x + jnp.fft.fft2(x).real)
        x = nn.LayerNorm()(x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(2 * x.shape[-1])(x))))
        return nn.Dense(8)(x)


class Operator(nn.Module):
    """A Fourier neural operator along a line."""

    width: int = 16
    whole: bool = False  # whether its weights are complex themselves, or of two real ones each

    def weight(self, name, shape):
        if self.whole:
            return self.param(name, lambda key, s: jax.random.normal(key, s, jnp.complex64), shape)
        return lax.complex(*(self.param(f"{name}_{part}", nn.initializers.normal(0.1), shape) for part in ("a", "b")))

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x)
        for i in range(2):
            waves = jnp.fft.rfft(x, axis=1)
            turned = jnp.einsum("bmi,iom->bmo", waves[:, :6], self.weight(f"modes{i}", (self.width, self.width, 6)))
            filtered = jnp.fft.irfft(jnp.zeros_like(waves).at[:, :6].set(turned), n=x.shape[1], axis=1)
            x = nn.gelu(filtered + nn.Dense(self.width)(x))
        return nn.Dense(8)(x)


SHAPE = (16, 16, 24)
LAYERS = {
    "recurrence": Recurrence(),
    "recurrence, stepwise": Recurrence(stepwise=True),
    "discretized": Discretized(),
    "mixing": Mixing(),
    "operator": Operator(),
    "operator, complex weights": Operator(whole=True),
}
# One draw of 16 step sizes is off by .8 octaves on average, more than any prediction can be.
SEEDS = {"discretized": 12}
SLOW = pytest.mark.slow
CASES = [pytest.param(name, marks=() if name == "recurrence" else SLOW) for name in LAYERS]


@pytest.mark.parametrize("name", CASES)
def test_layers(name):
    network, x = LAYERS[name], jax.random.normal(jax.random.key(9), SHAPE)
    report = qrjax.analyze(network, jax.ShapeDtypeStruct(SHAPE, jnp.float32))
    assert not [note for row in report for note in row.notes if "sampling" in note]
    octaves = []
    for seed in range(SEEDS.get(name, 2)):
        variables = qrjax.autoinit(network, x, seed=seed)
        rows = qrjax.measure(network, variables, x)
        octaves.append([np.log2(row.measured_second_moment / row.second_moment) for row in rows])
    # The one input that is mixed without a weight before it has waves of its own.
    assert np.abs(np.mean(octaves, 0)).max() < (0.25 if name == "mixing" else 0.2)
    # Every complex weight is sized: nothing but vectors stays as the module draws it.
    sized = {row.weight for row in report.weights}
    untouched = {path for path in paths(variables["params"]) if path not in sized and "bias" not in path}
    assert all(path.endswith(("_b", "size", "angle", "scale", "log_step")) for path in untouched)


def paths(tree):
    return ["/".join(key.key for key in path) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrence", "operator, complex weights"])
def test_calibrated(name):
    network, x = LAYERS[name], jax.random.normal(jax.random.key(9), SHAPE)
    made = qrjax.calibrate(network, jax.jit(network.init)(jax.random.key(0), x), x, target=2.0)
    for row in qrjax.measure(network, made, x).weights:
        # The unit of 16 places' waves is 16.
        unit = 16 if "modes" in row.weight else 1
        assert row.measured_second_moment == pytest.approx(2.0 * unit, rel=0.01)


def test_both_parts_share_their_gain():
    variables = qrjax.autoinit(Recurrence(), jax.ShapeDtypeStruct(SHAPE, jnp.float32))["params"]
    for name in ("into", "out"):
        first, second = (float(np.std(variables[f"{name}_{part}"])) for part in ("a", "b"))
        assert first == pytest.approx(second, rel=0.1)


def pair(shape):
    x = jax.random.normal(jax.random.key(5), (256, 64))
    init = lambda key, *_: {"w": jax.random.normal(key, shape, jnp.complex64), "v": jax.random.normal(key, shape)}  # noqa: E731
    return (init, lambda p, x: jnp.abs(x.astype(jnp.complex64) @ p["w"]) @ p["v"]), x


def test_complex_parameters_are_calibrated():
    network, x = pair((64, 64))
    made = qrjax.calibrate(network, network[0](jax.random.key(0)), x)
    assert made["w"].dtype == jnp.complex64
    for row in qrjax.measure(network, made, x).weights:
        assert row.measured_second_moment == pytest.approx(1.0, rel=0.01)


@pytest.mark.few("truncated_normal")
@pytest.mark.parametrize(
    "distribution", ["truncated_normal", "orthogonal", *(pytest.param(d, marks=SLOW) for d in ("normal", "uniform"))]
)
def test_complex_parameters_are_drawn_complex_and_recorded(distribution):
    network, x = pair((64, 64))
    made = qrjax.autoinit(network, x, distribution=distribution)
    assert made["w"].dtype == jnp.complex64
    for part in (made["w"].real, made["w"].imag):
        assert float(jnp.square(part).mean()) * 64 == pytest.approx(0.5, rel=0.03)
    record = qrjax.record(network, x, distribution=distribution)
    np.testing.assert_array_equal(record.initial("w"), made["w"])
    if distribution != "orthogonal":
        np.testing.assert_array_equal(record.weight("w", (3, slice(2, 9))), made["w"][3, 2:9])


@pytest.mark.parametrize("kernel_dtype", [jnp.float32, jnp.complex64])
def test_constant_weights_meet_complex_signals_as_they_are(kernel_dtype):
    """As Flax's own tests have them, with kernels of ones."""
    x = jax.random.normal(jax.random.key(0), (256, 16), jnp.complex64)
    half = nn.initializers.constant(0.5)
    layer = nn.Dense(8, dtype=jnp.complex64, param_dtype=kernel_dtype, kernel_init=half)
    variables, report = qrjax.autoinit(layer, x, report=True)
    np.testing.assert_array_equal(variables["params"]["kernel"], 0.5 * np.ones((16, 8)))
    (row,) = report.weights
    assert row.second_moment == pytest.approx(16 * 0.5**2, rel=0.15)  # of 256 examples' luck


def test_filters_that_multiply_waves_are_left_and_named():
    """Rao et al. 2021: a learned weight for each wave, whose scale is its author's."""

    def filtered(p, x):
        waves = jnp.fft.rfft2(x, axes=(1, 2)) * lax.complex(p["filter"][..., 0], p["filter"][..., 1])[None]
        return jnp.fft.irfft2(waves, s=(8, 8), axes=(1, 2)) @ p["w"]

    shapes = {"filter": (8, 5, 16, 2), "w": (16, 8)}
    made = lambda key, _: {name: 0.02 * jax.random.normal(key, shape) for name, shape in shapes.items()}  # noqa: E731
    with pytest.warns(qrjax.UntouchedWarning, match=r"left as the module draws it: filter \(meets a signal by mul\)"):
        variables, report = qrjax.autoinit((made, filtered), np.ones((4, 8, 8, 16), np.float32), report=True)
    assert any("filter (meets a signal by mul)" in finding for finding in report.findings)
    np.testing.assert_allclose(variables["filter"], made(jax.random.key(0), None)["filter"], rtol=1e-6)


@pytest.mark.filterwarnings("ignore::qrjax.UntouchedWarning")
def test_filters_of_powers_are_made_of_their_own_elements():
    """As S4D's: sums of powers of complex numbers, of which the slow ones are small and the fast ones cancel."""

    def init(key, _x):
        keys = jax.random.split(key)
        steps = jnp.log(jnp.geomspace(1e-3, 1e-1, 32))
        turns = {"slow": jnp.full((8, 1), -0.5), "turns": np.pi * jnp.arange(8.0)[:, None]}
        parts = jax.random.normal(keys[0], (2, 8, 32)) / np.sqrt(2)
        return {"steps": steps, "parts": parts, **turns, "last": jax.random.normal(keys[1], (32, 64))}

    def apply(params, x):
        rate, step = lax.complex(params["slow"], params["turns"]), jnp.exp(params["steps"])
        scale = lax.complex(*params["parts"]) * (jnp.exp(step * rate) - 1) / rate
        powers = jnp.exp(step * rate * np.arange(16)[:, None, None])
        waves = jnp.fft.rfft((scale * powers).sum(1).real, n=32, axis=0)
        return jnp.fft.irfft(waves[None] * jnp.fft.rfft(x, n=32, axis=1), n=32, axis=1)[:, :16] @ params["last"]

    x = jax.random.normal(jax.random.key(0), (64, 16, 32))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        moment = jax.jit(lambda params: jnp.mean(jnp.square(apply(params, x))))
        found = [float(moment(qrjax.autoinit((init, apply), x, seed=s))) for s in range(2)]
    # The luck of 32 filters of 8 terms each, of which few are slow.
    assert np.mean(found) == pytest.approx(1, rel=0.4)


def test_both_parameters_of_a_weight_that_known_factors_turn_are_sized():
    """As S5's inputs: states turn a real and an imaginary parameter, each by a factor of its own."""

    def init(key, _x):
        return {n: jax.random.normal(jax.random.fold_in(key, i), (16, 64)) / 8 for i, n in enumerate("ab")}

    def apply(params, x):
        return x.astype(jnp.complex64) @ (DECAYS[:, None] * lax.complex(params["a"], params["b"])).T

    x = jax.random.normal(jax.random.key(0), (256, 64))
    variables = qrjax.autoinit((init, apply), x)
    scale = 1 / np.sqrt(64 * 2 * np.square(np.abs(DECAYS)).mean())
    for part in variables.values():
        assert float(part.std()) == pytest.approx(scale, rel=0.05)
    moment = jnp.square(jnp.abs(apply(variables, x))).mean()
    assert float(moment) == pytest.approx(1, rel=0.1)
