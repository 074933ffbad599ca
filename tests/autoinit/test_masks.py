"""Masked softmax: one law, whatever number, dtype or function takes elements out of it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moments import function_agrees, measured, normal, predicted, shape_of

import qrjax

ROWS, LENGTH, HEADS, WIDTH = 4, 16, 4, 16
CAUSAL = np.tri(LENGTH, dtype=bool)
LENGTHS = np.array([16, 11, 6, 3])
PADDING = (np.arange(LENGTH)[None] < LENGTHS[:, None])[:, None, None, :]
MASKS = {"causal": CAUSAL[None, None], "padding": PADDING, "both": CAUSAL[None, None] & PADDING}
SLOPES = 2.0 ** -np.arange(1, HEADS + 1, dtype=np.float32)
PLACES = np.arange(LENGTH, dtype=np.float32)
ALIBI = SLOPES[:, None, None] * -np.abs(PLACES[:, None] - PLACES[None, :])
SCORES = normal(ROWS, HEADS, LENGTH, LENGTH)
NUMBERS = (-1e4, -1e9, -1e30, "min", -np.inf)
WAYS = {
    "chosen": lambda x, mask, c: jnp.where(mask, x, c),
    "added": lambda x, mask, c: x + jnp.where(mask, jnp.zeros_like(c), c),
    # Numbers beyond the type's are infinite, and an infinity times no mask is no number.
    "as a multiple": lambda x, mask, c: x + (1 - mask.astype(x.dtype)) * jnp.maximum(c, jnp.finfo(x.dtype).min),
    "added to a bias": lambda x, mask, c: x + (ALIBI[None].astype(x.dtype) + jnp.where(mask, jnp.zeros_like(c), c)),
    "before a scale": lambda x, mask, c: jnp.asarray(0.5, x.dtype) * jnp.where(mask, x + x, c),
    "twice": lambda x, mask, c: jnp.where(mask, x, c) + jnp.where(mask, jnp.zeros_like(c), c),
}


def law(way, mask, number, dtype=jnp.float32):
    c = jnp.finfo(dtype).min if number == "min" else number
    c = jnp.asarray(c if c == -np.inf else max(c, float(jnp.finfo(dtype).min)), dtype)
    return lambda x: nn.softmax(WAYS[way](x.astype(dtype), MASKS[mask], c)).astype(jnp.float32)


def ways_and_masks():
    """Each way and each mask by default, all pairs in the slow part."""
    for i, way in enumerate(WAYS):
        for j, mask in enumerate(MASKS):
            yield pytest.param(way, mask, marks=[pytest.mark.slow] * ((i - j) % len(MASKS) != 0))


@pytest.mark.turns(5)
@pytest.mark.few("chosen-causal", "added-padding", "as a multiple-both")
@pytest.mark.parametrize(("way", "mask"), list(ways_and_masks()))
def test_every_number_masks_alike(way, mask):
    first = predicted(law(way, mask, NUMBERS[0]), SCORES)
    assert first.mean == pytest.approx(1 / LENGTH, rel=1e-3)  # a row's sum is one
    half = [(number, dtype) for number in ("min", -np.inf) for dtype in (jnp.bfloat16, jnp.float16)]
    for number, dtype in [*((number, jnp.float32) for number in NUMBERS[1:]), *half]:
        found = predicted(law(way, mask, number, dtype), SCORES)
        # Of a bias in half precision some numbers are others.
        within = 0.01 if way == "added to a bias" and dtype != jnp.float32 else 1e-6
        assert found.second_moment == pytest.approx(first.second_moment, rel=within), (dtype, number)
        assert found.rho == pytest.approx(first.rho, abs=within)


@pytest.mark.few("chosen-padding", "added to a bias-both")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("way", ["chosen", "added to a bias"])
def test_and_as_measured(way, mask):
    function_agrees(law(way, mask, -1e9), SCORES, draws=64)


def scores(q, k):
    return jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.float32(np.sqrt(WIDTH))


def weighted(p, v):
    return jnp.einsum("bhqk,bkhd->bqhd", p, v)


def by_hand(q, k, v):
    e = jnp.where(MASKS["causal"], jnp.exp(scores(q, k)), 0)
    return weighted(e / e.sum(-1, keepdims=True), v)


def multiplied(q, k, v):
    e = jnp.exp(scores(q, k)) * MASKS["both"].astype(np.float32)
    return weighted(e / (1e-9 + e.sum(-1, keepdims=True)), v)


def best(q, k, v):
    s = scores(q, k)
    return weighted(nn.softmax(jnp.where(s < jax.lax.top_k(s, 4)[0][..., -1:], -jnp.inf, s)), v)


BIAS = ALIBI[None] + np.where(MASKS["causal"], 0, np.finfo(np.float32).min)
ATTENTION = {
    "Linen, causal": lambda q, k, v: nn.dot_product_attention(q, k, v, mask=MASKS["causal"]),
    "Linen, padding": lambda q, k, v: nn.dot_product_attention(q, k, v, mask=MASKS["padding"]),
    "Linen, a bias with a mask": lambda q, k, v: nn.dot_product_attention(q, k, v, bias=BIAS),
    "Linen, a bias": lambda q, k, v: nn.dot_product_attention(q, k, v, bias=ALIBI[None]),
    "jax.nn, causal": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
    "jax.nn, both": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=MASKS["padding"], is_causal=True),
    "jax.nn, lengths": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=LENGTHS),
    "jax.nn, a window": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, local_window_size=(3, 0)),
    "jax.nn, a bias": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, bias=BIAS),
    "shared keys": lambda q, k, v: jax.nn.dot_product_attention(q, k[:, :, :2], v[:, :, :2], is_causal=True),
    "softmax's where": lambda q, k, v: weighted(
        nn.softmax(scores(q, k), where=np.broadcast_to(CAUSAL, (ROWS, HEADS, LENGTH, LENGTH))), v
    ),
    "zeros after the exponential": by_hand,
    "multiplied after the exponential": multiplied,
    "multiplied before": lambda q, k, v: weighted(nn.softmax(scores(q, k) * CAUSAL - 1e10 * (1.0 - CAUSAL)), v),
    "the best only": best,
}  # fmt: skip


@pytest.mark.few("Linen, padding", "jax.nn, both", "shared keys", "zeros after the exponential", "the best only")
@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name):
    if name == "multiplied before":
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function_agrees(ATTENTION[name], *(normal(ROWS, LENGTH, HEADS, WIDTH) for _ in range(3)), draws=32)
    return function_agrees(ATTENTION[name], *(normal(ROWS, LENGTH, HEADS, WIDTH) for _ in range(3)), draws=32)


def causal(x):
    return jnp.where(MASKS["causal"], x, -1e9)


def padded(x):
    return jnp.where(MASKS["padding"], x, 0)


def chance(key, shape):
    """Seven of ten, and oneself."""
    return jax.random.bernoulli(key, 0.7, shape) | np.eye(shape[-1], dtype=bool)[None, None]


REDUCTIONS = {
    "largest": lambda x: causal(x).max(-1),
    "smallest": lambda x: jnp.where(MASKS["causal"], x, 1e9).min(-1),
    "logsumexp": lambda x: jax.nn.logsumexp(jnp.where(MASKS["both"], x, -np.inf), -1),
    "log_softmax": lambda x: jnp.where(MASKS["both"], jax.nn.log_softmax(jnp.where(MASKS["both"], x, -1e9)), 0),
    "mean": lambda x: padded(x).sum(-1) / LENGTHS[:, None, None].astype(np.float32),
    "normalized": lambda x: padded(x) / (1 + padded(x * x).sum(-1, keepdims=True)),
    "pooled": lambda x: (padded(x).sum((1, 2)) / (HEADS * LENGTH)),
    "padded keys": lambda x: nn.softmax(jnp.pad(causal(x), ((0, 0), (0, 0), (0, 0), (0, 4)), constant_values=-1e9)),
    "some of the queries": lambda x: nn.softmax(causal(x)[:, :, 4:9]),
    "two after each other": lambda x: nn.softmax(jnp.where(MASKS["padding"], causal(x), -1e9)),
    "steep": lambda x: nn.softmax(6 * causal(x)),
    "over queries": lambda x: nn.softmax(causal(x), 2),
    "at random": lambda x, key: nn.softmax(jnp.where(chance(key, x.shape), x, -1e9)),
    "at random and causal": lambda x, key: nn.softmax(jnp.where(chance(key, x.shape), causal(x), -1e9)),
    "sampled": lambda x: jnp.cumsum(padded(x), -1),
    "in a scan": lambda x: jax.lax.scan(lambda c, y: (c, nn.softmax(jnp.where(CAUSAL, y, -1e9))), 0, x[0])[1],
    "recomputed": jax.checkpoint(lambda x: nn.softmax(causal(x))),
    "is it masked": lambda x: (causal(x) > -1e8).astype(jnp.float32),
    "bounded": lambda x: jnp.tanh(causal(x)),
    "moved": lambda x: nn.softmax(causal(x).transpose(0, 1, 3, 2).reshape(ROWS, -1, LENGTH), 1),
}  # fmt: skip


@pytest.mark.few("largest", "logsumexp", "normalized", "at random", "in a scan", "sampled")
@pytest.mark.parametrize("name", REDUCTIONS)
def test_what_else_meets_a_mask(name):
    # A mask at random has no rows that are known, and cumsum is sampled once.
    within = 0.1 if "random" in name or name == "sampled" else 0.05
    function_agrees(REDUCTIONS[name], normal(ROWS, HEADS, LENGTH, LENGTH, mean=0.5), draws=64, within=within)


class RelativeAttention(nn.Module):
    """Self-attention with a table of relative positions, as T5's decoder has it."""

    number: float = -1e9
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x):
        rows, length, width = x.shape

        def heads(name):
            dense = nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)
            return dense(x).reshape(rows, length, 4, -1)

        away = np.clip(np.arange(length)[None] - np.arange(length)[:, None], -8, 0) + 8
        bias = nn.Embed(9, 4, dtype=self.dtype)(away).transpose(2, 0, 1)[None]
        number = jnp.asarray(self.number, self.dtype)
        bias = bias + jnp.where(np.tri(length, dtype=bool)[None, None], jnp.zeros_like(number), number)
        y = nn.dot_product_attention(heads("query"), heads("key"), heads("value"), bias, dtype=self.dtype)
        return nn.Dense(width, use_bias=False, dtype=self.dtype, name="out")(y.reshape(x.shape)).astype(jnp.float32)


class Decoder(nn.Module):
    number: float = -1e9
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = x + RelativeAttention(self.number, self.dtype)(nn.LayerNorm()(x).astype(self.dtype))
        return x


X = normal(4, LENGTH, 64)


def gains(number, dtype):
    report = qrjax.analyze(Decoder(number, dtype), shape_of(X))
    return np.array([row.gain for row in report if row.gain is not None])


def test_a_decoder_has_the_same_gains_whatever_masks_it():
    first = gains(-1e4, jnp.float32)
    assert np.isfinite(first).all()
    for dtype, number in ((jnp.float32, -1e30), (jnp.float32, -np.inf), (jnp.bfloat16, "min"), (jnp.float16, "min")):
        number = float(jnp.finfo(dtype).min) if number == "min" else number
        assert gains(number, dtype) == pytest.approx(first, rel=1e-6), (dtype, number)


@pytest.mark.slow
def test_a_decoder_as_measured():
    squares = []
    for seed in range(6):
        variables = qrjax.autoinit(Decoder(), shape_of(X), seed=seed, source="hash", distribution="uniform")
        report = qrjax.measure(Decoder(), variables, jax.random.normal(jax.random.key(seed), X.shape))
        squares.append([row.measured_second_moment for row in report if row.gain is not None])
    # Six draws of tables of nine: their squares' mean is within 1.5 of one, others closer.
    assert np.abs(np.log2(np.mean(squares, 0))).max() < 0.3
    assert np.median(np.abs(np.log2(np.mean(squares, 0)))) < 0.1


class Bias(nn.Module):
    """Scores between positions, and a mask in them: a module whose output is partly absent."""

    number: float

    @nn.compact
    def __call__(self, x):
        return nn.Dense(LENGTH)(x) + jnp.where(CAUSAL, 0.0, self.number)[None]


@pytest.mark.parametrize("number", [-1e4, -1e9, float(jnp.finfo(jnp.float32).min)])
def test_measured_rows_are_about_the_scores_that_are_present(number):
    network = nn.Sequential([Bias(number), nn.softmax, nn.Dense(8)])
    x = jax.random.normal(jax.random.key(3), X.shape)
    report = qrjax.measure(network, qrjax.autoinit(network, x), x)
    row = next(row for row in report if row.path == "layers_0")
    assert row.measured_second_moment == pytest.approx(row.second_moment, rel=0.2)
    assert not any("exploding" in finding for finding in report.findings)


class Padded(nn.Module):
    """Attention with a padding mask of integers, as tokenizers give it."""

    @nn.compact
    def __call__(self, x, mask):
        number = jnp.finfo(x.dtype).min
        bias = jax.lax.select(mask > 0, jnp.zeros(mask.shape), jnp.full(mask.shape, number))[:, None, None, :]

        def heads(name):
            return nn.DenseGeneral((4, 16), use_bias=False, name=name)(x)

        y = nn.dot_product_attention(heads("query"), heads("key"), heads("value"), bias)
        return nn.DenseGeneral(64, axis=(-2, -1), name="out")(y)


def gain(report):
    return next(row.gain for row in report if row.path == "out")


def test_a_mask_that_is_not_known():
    # Fifteen of sixteen unknown integers are above 0, so nearly all is present.
    unknown = qrjax.analyze(Padded(), shape_of(X), jax.ShapeDtypeStruct((4, LENGTH), np.int32))
    full = qrjax.analyze(Padded(), shape_of(X), np.ones((4, LENGTH), np.int32))
    assert gain(unknown) == pytest.approx(gain(full), rel=0.05)
    half = qrjax.analyze(Padded(), shape_of(X), (np.arange(LENGTH)[None] < LENGTHS[:, None]).astype(np.int32))
    assert gain(half) < 0.9 * gain(full)


def test_rows_that_are_masked_all_over():
    # Programs attend to all of such a row, by whatever is left of its scores.
    empty = np.array(MASKS["causal"])
    empty[..., 0, :] = False
    found = predicted(lambda x: nn.softmax(jnp.where(empty, x, -1e9)), SCORES)
    _, second_moment = measured(lambda x: nn.softmax(jnp.where(empty, x, -1e9)), SCORES)
    assert found.mean == pytest.approx(1 / LENGTH, rel=1e-3)
    assert found.second_moment == pytest.approx(second_moment, rel=0.05)


def keeps_the_largest(p, x):
    """Attention to the four keys of sixteen with the largest scores."""
    queries, keys, values = (
        (x.reshape(-1, 64) @ p[name]).reshape(4, LENGTH, HEADS, WIDTH) for name in ("queries", "keys", "values")
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) / 4.0
    scores = jnp.where(scores >= jax.lax.top_k(scores, 4)[0][..., -1:], scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), values).reshape(-1, 64) @ p["out"]


def test_attention_to_the_largest_scores_leans_towards_its_queries():
    names = ("queries", "keys", "values", "out")
    pair = (lambda key, _: {name: jax.random.normal(key, (64, 64)) for name in names}, keeps_the_largest)
    x = np.random.default_rng(0).standard_normal((4, LENGTH, 64), np.float32)
    octaves = [qrjax.measure(pair, qrjax.autoinit(pair, x, seed=s), x)[-1].octaves for s in range(2)]
    assert abs(np.mean(octaves)) < 0.1  # without what the scores and the values share: .18
