"""Weights that go through a function of themselves, other parameters and constants before they meet a signal."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import qrjax

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (256, 64))
W = (64, 64)
MASK = np.tril(np.ones(W, np.float32))
UNSIZED = "ignore::qrjax.UntouchedWarning"


def pair(apply, *, constant=(), **shapes):
    """A model as two functions; parameters are standard normal, `constant` ones are all of one number."""

    def init(key, *_):
        drawn = {n: jax.random.normal(jax.random.fold_in(key, i), s) for i, (n, s) in enumerate(shapes.items())}
        return drawn | {name: jnp.full(shape, value) for name, shape, value in constant}

    return init, apply


def standardized(w):
    return (w - w.mean(0, keepdims=True)) * lax.rsqrt(w.var(0, keepdims=True) + 1e-5)


def rounded(w):
    """Straight through."""
    return w + lax.stop_gradient(jnp.round(w) - w)


def flipped(p, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x.reshape(-1, 8, 8, 4), jnp.flip(p["w"], (0, 1)), (1, 1), "SAME", None, None, numbers
    )


def stack(p, x):
    return lax.scan(lambda y, w: (nn.relu(y) @ w, None), x, p["w"] * MASK[None])[0]


LORA = {"a": (64, 4), "b": (4, 64)}
# For each a model, the second moment of its output, and the parameters that were sized.
MODELS = {
    "masked": (pair(lambda p, x: x @ (p["w"] * MASK), w=W), 1.0, "w"),
    "masked by where": (pair(lambda p, x: x @ jnp.where(MASK > 0, p["w"], 0.0), w=W), 1.0, "w"),
    "standardized": (pair(lambda p, x: x @ (0.1 * standardized(p["w"])), w=W), 0.64, ""),
    "standardized, with a gain": (
        pair(lambda p, x: x @ (standardized(p["w"]) * p["g"]), w=W, constant=[("g", (1, 64), 1.0)]), 1.0, "g",
    ),
    "normalized": (pair(lambda p, x: x @ (8 * p["w"] / jnp.linalg.norm(p["w"])), w=W), 1.0, ""),
    "rounded": (pair(lambda p, x: x @ (rounded(4 * p["w"]) / 4), w=W), 1.0, "w"),
    "beside the identity": (pair(lambda p, x: x @ (p["w"] + jnp.eye(64)), w=W), 2.0, "w"),
    "with noise": (pair(lambda p, x: x @ (p["w"] + 0.05 * jax.random.normal(KEY, W)), w=W), 1.0, "w"),
    "squashed": (pair(lambda p, x: x @ jnp.tanh(p["w"]), w=W), 1.0, "w"),
    "symmetric": (pair(lambda p, x: x @ (p["w"] + p["w"].T), w=W), 1.0, "w"),
    "low rank beside": (pair(lambda p, x: x @ (p["w"] + p["a"] @ p["b"]), w=W, **LORA), 1.0, "abw"),
    "low rank beside, zero yet": (
        pair(lambda p, x: x @ (p["w"] + p["a"] @ p["b"]), w=W, a=(64, 4), constant=[("b", (4, 64), 0.0)]), 1.0, "w",
    ),
    "low rank": (pair(lambda p, x: x @ (p["a"] @ p["b"]), **LORA), 1.0, "ab"),
    "times a constant matrix": (pair(lambda p, x: x @ (p["w"] @ jnp.eye(64)[::-1]), w=W), 1.0, "w"),
    "permuted": (pair(lambda p, x: x @ p["w"][np.arange(64)[::-1]], w=W), 1.0, "w"),
    "flipped kernel": (pair(flipped, w=(3, 3, 4, 64)), 1.0, "w"),
    "orthogonalized": (pair(lambda p, x: x @ jnp.linalg.qr(p["w"])[0], w=W), 1.0, ""),
    "complex of two": (pair(lambda p, x: (x @ lax.complex(p["a"], p["b"])).real, a=W, b=W), None, None),
}  # fmt: skip
del MODELS["complex of two"]  # has a table of its own


# Of each kind of function one by default.
SLOW = {
    "masked by where", "standardized", "normalized", "beside the identity", "with noise", "low rank beside",
    "times a constant matrix", "permuted", "squashed",
}  # fmt: skip


@pytest.mark.few("standardized, with a gain", "low rank beside, zero yet", "rounded")
@pytest.mark.filterwarnings(UNSIZED)
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MODELS])
def test_what_is_made_of_weights_gives_its_output_the_target(name):
    model, moment, sized = MODELS[name]
    own = model[0](jax.random.key(0), X)
    outputs, report = [], qrjax.analyze(model, X)
    for seed in range(3):
        params = qrjax.autoinit(model, X, seed=seed)
        outputs.append(float(jnp.mean(jnp.square(model[1](params, X)))))
    # One draw of 64 x 64 weights is within 4 %; rounded ones are few numbers, low rank sums luckier.
    assert np.mean(outputs) == pytest.approx(moment, rel=0.12), f"predicted {report[-1].second_moment:.3f}"
    assert report[-1].second_moment == pytest.approx(np.mean(outputs), rel=0.15)
    scales = [{n: float(np.sqrt(np.mean(np.square(p[n])))) for n in own} for p in (own, params)]
    assert "".join(n for n in sorted(own) if scales[0][n] != pytest.approx(scales[1][n], rel=0.3)) == sized


@pytest.mark.filterwarnings(UNSIZED)
def test_weights_of_a_stack_masked_together():
    model = pair(stack, w=(3, *W))
    rows = qrjax.analyze(model, X).weights
    # One gain for all three layers, whose mean has the target.
    assert len({row.gain for row in rows}) == 1
    assert np.mean([row.second_moment for row in rows]) == pytest.approx(1.0, abs=0.01)


def test_positions_through_a_layer_are_a_signal_and_no_weight():
    positions = np.sin(np.arange(64)[:, None] * np.linspace(0.1, 1, 64)).astype(np.float32)
    x = X.reshape(4, 64, 64)

    def apply(p, x):
        return x @ p["w"] + (nn.relu(positions @ p["v"]) @ p["u"])[None]

    report = qrjax.analyze(pair(apply, w=W, v=W, u=W), x)
    assert {row.weight: round(row.second_moment, 3) for row in report.weights} == {"v": 1.0, "u": 1.0, "w": 1.0}


def test_learned_queries_are_a_signal_and_no_weight():
    def apply(p, x):
        queries = jnp.broadcast_to(p["latents"], (len(x), 8, 64)) @ p["q"]
        return nn.dot_product_attention(queries[:, :, None], (x @ p["k"])[:, :, None], (x @ p["v"])[:, :, None])

    report = qrjax.analyze(pair(apply, latents=(8, 64), q=W, k=W, v=W), X.reshape(4, 64, 64))
    assert {row.weight: round(row.second_moment, 3) for row in report.weights} == {"q": 1.0, "k": 1.0, "v": 1.0}
    assert not report.findings


def modulated(demodulate):
    """A convolution whose kernel each example multiplies by a style of its own (arXiv 1912.04958)."""

    def one(image, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(image[None], kernel, (1, 1), "SAME", None, None, numbers)[0]

    def apply(p, x):
        image, style = x
        kernels = p["w"][None] * (style @ p["a"] + 1)[:, None, None, :, None]
        if demodulate:
            kernels = kernels * lax.rsqrt((kernels**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        return jax.vmap(one)(image, kernels)

    return pair(apply, w=(3, 3, 16, 16), a=(32, 16))


@pytest.mark.filterwarnings(UNSIZED)
@pytest.mark.parametrize("demodulate", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_modulated_kernels(demodulate):
    model = modulated(demodulate)
    x = (jax.random.normal(KEY, (16, 8, 8, 16)), jax.random.normal(jax.random.key(1), (16, 32)))
    outputs = [np.square(model[1](qrjax.autoinit(model, x, seed=s), x)).mean() for s in range(3)]
    row = qrjax.analyze(model, x)[-1]
    # Demodulated, an output has 1 but for the taps that the border cuts off.
    assert row.second_moment == pytest.approx(0.84 if demodulate else 1.0, abs=0.03)
    assert np.mean(outputs) == pytest.approx(row.second_moment, rel=0.1), f"measured by three seeds: {outputs}"
    assert ("normalized" in " ".join(row.notes)) == demodulate, f"notes where demodulation is {demodulate}: {row.notes}"


class Normed(nn.Module):
    wrapper: object
    depth: int = 2

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = self.wrapper(nn.Dense(64))(x)
        return x

    def step(self, x, _):
        return self(x), None


def spectral(layer):
    return lambda x: nn.SpectralNorm(layer)(x, update_stats=True)


@pytest.mark.parametrize("depth", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_weight_norm_has_its_gain_in_its_scale(depth):
    network = Normed(nn.WeightNorm, depth)
    variables, report = qrjax.autoinit(network, X, report=True)
    assert float(jnp.mean(network.apply(variables, X) ** 2)) == pytest.approx(1.0, rel=0.1)
    scales = [v for path, v in jax.tree_util.tree_leaves_with_path(variables) if "scale" in str(path)]
    assert len(scales) == depth
    assert all(np.ptp(np.asarray(scale)) == 0 for scale in scales)
    assert all("its own scale has no effect" in row.notes[0] for row in report.weights)


class NormedScan(nn.Module):
    """Layers under a scan, whose scales lie side by side."""

    axis: int = 0

    @nn.compact
    def __call__(self, x):
        layer = nn.scan(Normed, {"params": self.axis}, split_rngs={"params": True}, length=3, methods=["step"])
        return layer(nn.WeightNorm, 1).step(x, None)[0]


@pytest.mark.parametrize("axis", [0, 1])
def test_scales_of_scanned_layers_are_one_number_each(axis):
    def is_scale(path):
        return "scale" in str(path)

    network = NormedScan(axis)
    variables = qrjax.autoinit(network, X, seed=3)
    (scales,) = [v for path, v in jax.tree_util.tree_leaves_with_path(variables) if is_scale(path)]
    assert scales.shape == ((3, 64), (64, 3))[axis]
    assert (np.ptp(np.asarray(scales), 1 - axis) == 0).all()
    assert (np.asarray(scales) > 0).all()
    assert qrjax.changes(qrjax.record(network, X, seed=3), variables).total.changed == 0


def test_scales_that_are_drawn_keep_their_law_beside_weights():
    """Random weight factorization (Wang et al. 2022, arXiv 2210.01274): exp(1 + normal / 10) for each unit."""

    def init(key, *_):
        drawn = {name: jax.random.normal(jax.random.fold_in(key, i), W) for i, name in enumerate("vw")}
        return drawn | {name: jnp.exp(1 + jax.random.normal(key, (64,)) / 10) for name in "gh"}

    model = init, lambda p, x: jnp.tanh(x @ (p["g"][None] * p["v"])) @ (p["w"] * p["h"][None])
    variables, report = qrjax.autoinit(model, X, report=True)
    assert all(1 < np.min(variables[name]) < np.max(variables[name]) < 5 for name in "gh")
    assert all(abs(row.octaves) < 0.25 for row in qrjax.measure(model, variables, X).weights)
    assert not report.findings


def test_a_norm_that_is_drawn_with_its_weight_becomes_one_number():
    """As Equinox's weight norm begins: each unit's scale is the length of its own weights."""

    def init(key, *_):
        v = jax.random.normal(key, W)
        return {"v": v, "g": jnp.linalg.norm(v, axis=0)}

    model = init, lambda p, x: x @ (p["v"] * (p["g"] / jnp.linalg.norm(p["v"], axis=0))[None])
    variables = qrjax.autoinit(model, X)
    assert np.ptp(np.asarray(variables["g"])) == 0
    assert float(jnp.mean(model[1](variables, X) ** 2)) == pytest.approx(1.0, rel=0.1)


def test_spectral_norm_is_left_and_said_to_be():
    network = Normed(spectral)
    with pytest.warns(qrjax.UntouchedWarning, match=r"Dense_0/kernel, Dense_1/kernel \(normalized, so that its scale"):
        variables, report = qrjax.autoinit(network, X, report=True)
    measured = float(jnp.mean(network.apply(variables, X, mutable=["batch_stats"])[0] ** 2))
    assert abs(np.log2(measured / report[-1].second_moment)) < 0.5
    # An iteration's own start and the kernel that it has divided once are taken as they are drawn.
    for row, kernel in zip(report.weights, jax.tree.leaves(variables["params"])[1::2], strict=True):
        assert row.gain == pytest.approx(float(kernel.std()), rel=0.2)
    for row in qrjax.measure(network, variables, X).weights:
        assert abs(row.octaves) < 0.3
    assert any("left as the module draws them" in finding for finding in report.findings)


@pytest.mark.filterwarnings("ignore::qrjax.UntouchedWarning")
@pytest.mark.slow
def test_spectral_norm_can_be_drawn_within_a_program():
    network = Normed(spectral, 1)
    inside = jax.jit(lambda seed: qrjax.autoinit(network, X, seed=seed))(0)
    assert all(map(jnp.array_equal, jax.tree.leaves(inside), jax.tree.leaves(qrjax.autoinit(network, X))))


def test_a_vector_that_multiplies_is_named():
    with pytest.raises(ValueError, match="no weights that are summed over its input: s meets a signal by mul"):
        qrjax.autoinit(pair(lambda p, x: x * p["s"], s=(1, 64)), X)
    expected = r"left as the module draws it: s \(meets a signal by mul\)"
    with pytest.warns(qrjax.UntouchedWarning, match=expected) as found:
        qrjax.autoinit(pair(lambda p, x: (x * p["s"]) @ p["w"], s=X.shape, w=W), X)
    assert [warning.filename for warning in found] == [__file__]


@pytest.mark.parametrize(("name", "shape"), [("add", X.shape), ("mul", (1, 64))])
def test_what_is_added_or_a_vector_is_a_finding_and_no_warning(name, shape):
    apply = {"add": lambda p, x: (x + p["v"]) @ p["w"], "mul": lambda p, x: (x * p["v"]) @ p["w"]}[name]
    report = qrjax.autoinit(pair(apply, v=shape, w=W), X, report=True)[1]
    assert report.findings == (f"left as the module draws it: v (meets a signal by {name})",)


# -- what starts at a constant ------------------------------------------------------------------------------------


class Residual(nn.Module):
    """With branches and a head that start at zero."""

    @nn.compact
    def __call__(self, x):
        zeros = nn.initializers.zeros
        x = x + nn.Dense(64, kernel_init=zeros, name="out")(nn.relu(nn.Dense(128, name="into")(x)))
        return nn.Dense(10, kernel_init=zeros, name="head")(x)


def test_constants_are_kept_and_the_rows_say_so():
    variables, report = qrjax.autoinit(Residual(), X, report=True)
    assert not np.any(variables["params"]["out"]["kernel"])
    assert not np.any(variables["params"]["head"]["kernel"])
    assert [(row.path, row.gain > 0, row.notes) for row in report.weights] == [
        ("into", True, ()),
        ("out", False, ("its own initializer is a constant: kept",)),
        ("head", False, ("its own initializer is a constant: kept",)),
    ]
    assert not report.findings


def test_a_constant_that_select_spells_out_is_drawn():
    variables = qrjax.autoinit(Residual(), X, select=["head/kernel", "into/*"])
    assert np.std(variables["params"]["head"]["kernel"]) == pytest.approx(1 / 8, rel=0.2)
    assert not np.any(variables["params"]["out"]["kernel"])
    assert not np.any(qrjax.autoinit(Residual(), X, select="*/kernel")["params"]["head"]["kernel"])


def test_an_initializer_that_draws_nothing_is_a_constant():
    identity = nn.Dense(64, kernel_init=lambda _, shape, dtype: jnp.eye(*shape, dtype=dtype))
    network = nn.Sequential([nn.Dense(64), identity])
    kernel = qrjax.autoinit(network, X)["params"]["layers_1"]["kernel"]
    np.testing.assert_array_equal(kernel, np.eye(64))


def test_low_rank_adapters_of_nnx_do_nothing_at_first():
    module = nnx.LoRALinear(64, 64, lora_rank=4, rngs=nnx.Rngs(0))
    made = qrjax.autoinit(module, X)
    assert not np.any(made.lora.lora_b)
    assert np.mean(np.square(made(X))) == pytest.approx(1.0, rel=0.1)


# -- tables that make logits --------------------------------------------------------------------------------------


class Tied(nn.Module):
    @nn.compact
    def __call__(self, ids):
        embed = nn.Embed(512, 64)
        x = embed(ids)
        x = x + nn.Dense(64)(nn.relu(nn.Dense(128)(nn.LayerNorm()(x))))
        return embed.attend(nn.LayerNorm()(x))


IDS = np.random.default_rng(0).integers(0, 512, (4, 16), np.int32)


@pytest.mark.slow
def test_a_tied_language_model_starts_where_it_knows_nothing():
    variables, report = qrjax.autoinit(Tied(), IDS, report=True)
    logits = Tied().apply(variables, IDS)
    assert float(jnp.mean(logits**2)) == pytest.approx(1.0, rel=0.2)
    loss = -jnp.mean(jnp.take_along_axis(nn.log_softmax(logits), np.roll(IDS, -1, 1)[..., None], -1))
    assert float(loss) == pytest.approx(np.log(512) + 0.5, abs=0.3)
    look_up = report["Embed_0"]
    assert look_up.second_moment == pytest.approx(1 / 64, rel=0.01)
    assert "makes logits too, and is sized for these" in look_up.notes
    assert any(f.startswith("tied: Embed_0/embedding is looked up and makes the logits of") for f in report.findings)


class Positioned(nn.Module):
    """Tokens with the types and the positions that they have, as BERT adds them up."""

    @nn.compact
    def __call__(self, ids):
        init = nn.initializers.normal
        embed = nn.Embed(512, 64, embedding_init=init(0.02), name="tokens")
        types = nn.Embed(2, 64, embedding_init=init(0.02), name="types")(jnp.zeros_like(ids))
        places = nn.Embed(16, 64, embedding_init=init(0.01), name="places")(jnp.arange(16)[None])
        x = places + (embed(ids) + types)
        return embed.attend(nn.Dense(64)(nn.LayerNorm()(x)))


def test_what_is_added_to_a_tied_table_keeps_its_size_beside_it():
    variables, report = qrjax.autoinit(Positioned(), IDS, report=True)
    assert [report[name].second_moment for name in ("tokens", "types", "places")] == pytest.approx(
        [1 / 64, 1 / 64, 1 / 256], rel=0.02
    )
    assert report["tokens"].gain == pytest.approx(2 * report["places"].gain, rel=1e-3)
    assert all("added to look-ups" in report[name].notes[0] for name in ("types", "places"))
    measured = qrjax.measure(Positioned(), variables, IDS)
    assert measured["places"].octaves == pytest.approx(0.0, abs=0.05)
    table = lambda v, name: float(v["params"][name]["embedding"].std())  # noqa: E731
    calibrated = qrjax.calibrate(Positioned(), variables, IDS)
    assert table(calibrated, "tokens") == pytest.approx(2 * table(calibrated, "places"), rel=0.05)
    lookups = qrjax.autoinit(Positioned(), IDS, tied="lookup", report=True)[1]
    assert all(lookups[name].second_moment == pytest.approx(1.0) for name in ("tokens", "places"))


def test_a_tied_table_can_be_sized_for_its_look_ups():
    report = qrjax.autoinit(Tied(), IDS, tied="lookup", report=True)[1]
    assert report["Embed_0"].second_moment == pytest.approx(1.0)
    assert report[-1].second_moment == pytest.approx(64, rel=0.05)
    with pytest.raises(ValueError, match="`tied` must be"):
        qrjax.autoinit(Tied(), IDS, tied="both")


def test_masks_that_let_each_unit_see_some_others():
    """Germain et al. 2015: units of a low degree have few inputs, and are what all units of the next layer see."""
    inputs, hidden = np.arange(16), np.arange(64) % 15
    masks = [hidden[None] >= inputs[:, None], hidden[None] >= hidden[:, None], inputs[None] > hidden[:, None]]

    def forward(p, x):
        x = jax.nn.relu(x @ (p["in"] * masks[0].astype(np.float32)))
        x = jax.nn.relu(x @ jnp.where(masks[1], p["mid"], 0.0))
        return x @ (p["out"] * masks[2].astype(np.float32))

    network = pair(forward, **{"in": (16, 64), "mid": (64, 64), "out": (64, 16)})
    x = jax.random.normal(jax.random.key(1), (128, 16))
    measured = [qrjax.measure(network, qrjax.autoinit(network, x, seed=s), x) for s in range(3)]
    octaves = np.log2(np.mean([[row.measured_second_moment for row in report] for report in measured], 0))
    assert np.abs(octaves).max() < 0.2  # taken as even: .5 in the middle, .9 at the end
