"""Every kind of layer and every activation: the predicted second moment within 5 % of the measured one."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from moments import WITHIN, drawn, function_agrees, measured, module_agrees, normal, predicted, shape_of

import qrjax

# Exported beside the activations, and none: they take no array of numbers alone, or no numbers.
NO_ACTIVATIONS = {
    "one_hot", "dot_product_attention", "scaled_matmul", "scaled_dot_general", "get_scaled_dot_general_config",
}  # fmt: skip
# These need a domain of their own.
DOMAINS = {"log1mexp": normal(64, 128, mean=20.0, variance=4.0)}
X = normal(64, 128, mean=0.3, variance=2.0)
IMAGE = normal(2, 12, 12, 64)


def activations():
    for module in (nn.activation, jax.nn):
        for name, found in vars(module).items():
            public = callable(found) and not name.startswith("_") and not inspect.isclass(found)
            if public and name.islower() and name not in NO_ACTIVATIONS | {"compact"}:
                yield f"{module.__name__.split('.')[0]}.{name}", found


ACTIVATIONS = dict(activations())


def names(table, slow):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in table]


# JAX's own are Flax's under another name; or of a kind with others.
AGAIN = {
    name for name, found in ACTIVATIONS.items() if name.startswith("jax.") and found in vars(nn.activation).values()
}


@pytest.mark.some(2)
@pytest.mark.parametrize("name", names(ACTIVATIONS, AGAIN))
def test_activations(name):
    function = ACTIVATIONS[name]
    axis = {"axis": -1} if name.endswith(("normalize", "standardize", "logsumexp", "logmeanexp")) else {}
    function_agrees(lambda x: function(x, **axis), DOMAINS.get(name.split(".")[1], X))


def test_the_table_of_activations_is_complete():
    exported = {name for name, found in vars(nn).items() if getattr(found, "__module__", "").startswith("jax._src.nn")}
    assert exported - NO_ACTIVATIONS - {"dot_product_attention"} <= {name.split(".")[1] for name in ACTIVATIONS}
    assert len(ACTIVATIONS) >= 2 * 25


def initialized(layer):
    """The layer with its own initial variables, on the way."""
    return lambda *x: layer.init_with_output(jax.random.key(0), *x)[0]


def spatial_dropout(x, key):
    return nn.Dropout(0.25, broadcast_dims=(1, 2), deterministic=False).apply({}, nn.relu(x), rngs={"dropout": key})


def dropout(x, key):
    return nn.Dropout(0.3, deterministic=False).apply({}, x, rngs={"dropout": key})


def avg_pool(x, *args, **kwargs):
    with jax.numpy_dtype_promotion("standard"):  # Flax divides by an integer
        return nn.avg_pool(x, *args, **kwargs)


def upsampled(x, method):
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, 2 * h, 2 * w, c), method)


SHIFTED = normal(2, 12, 12, 64, mean=0.5, variance=2.0)
# Layers without weights. Normalizations take their statistics from the batch.
FUNCTIONS = {
    "BatchNorm": (lambda x: initialized(nn.BatchNorm(use_running_average=False))(x), SHIFTED),
    "BatchNorm, running average": (lambda x: initialized(nn.BatchNorm(use_running_average=True))(x), SHIFTED),
    "LayerNorm": (initialized(nn.LayerNorm()), SHIFTED),
    "GroupNorm": (initialized(nn.GroupNorm(8)), SHIFTED),
    "InstanceNorm": (initialized(nn.InstanceNorm()), SHIFTED),
    "RMSNorm": (initialized(nn.RMSNorm()), SHIFTED),
    "RMSNorm of relu": (lambda x: initialized(nn.RMSNorm())(nn.relu(x)), SHIFTED),
    "LayerNorm with a scale": (initialized(nn.LayerNorm(scale_init=nn.initializers.constant(0.5))), SHIFTED),
    "PReLU": (initialized(nn.PReLU()), X),
    "Dropout": (dropout, X),
    "spatial dropout": (spatial_dropout, SHIFTED),
    "avg_pool": (lambda x: avg_pool(nn.relu(x), (3, 3), (2, 2)), SHIFTED),
    "avg_pool, SAME": (lambda x: avg_pool(x, (3, 3), (2, 2), "SAME"), SHIFTED),
    "avg_pool, SAME, own count": (lambda x: avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False), SHIFTED),
    "max_pool": (lambda x: nn.max_pool(x, (3, 3), (2, 2)), SHIFTED),
    "max_pool, SAME": (lambda x: nn.max_pool(x, (3, 3), (1, 1), "SAME"), SHIFTED),
    "min_pool": (lambda x: nn.pooling.min_pool(x, (2, 2), (2, 2)), SHIFTED),
    "avg_pool, 1 axis": (lambda x: avg_pool(x, (2,), (2,)), normal(8, 32, 64, mean=0.2)),
    "max_pool, 1 axis": (lambda x: nn.max_pool(x, (2,), (2,)), normal(8, 32, 64)),
    "max_pool, 3 axes": (lambda x: nn.max_pool(x, (2, 2, 2), (2, 2, 2)), normal(2, 8, 8, 8, 16)),
    "avg_pool, 3 axes": (lambda x: avg_pool(x, (2, 2, 2), (2, 2, 2)), normal(2, 8, 8, 8, 16)),
    "global average pooling": (lambda x: nn.relu(x).mean((1, 2)), SHIFTED),
    "global average of centred": (lambda x: x.mean((1, 2)), IMAGE),
    "global max pooling": (lambda x: x.max((1, 2)), SHIFTED),
    "global min pooling": (lambda x: x.min((1, 2)), SHIFTED),
    "add": (lambda x, y: x + nn.relu(y), X, X),
    "subtract": (lambda x, y: x - nn.relu(y), X, X),
    "multiply": (lambda x, y: x * nn.sigmoid(y), X, X),
    "average": (lambda x, y, z: (x + y + z) / 3, X, X, normal(64, 128)),
    "minimum": (jnp.minimum, X, X),
    "maximum": (lambda x, y, z: jnp.maximum(jnp.maximum(x, y), z), X, X, X),
    "concatenate": (lambda x, y: jnp.concatenate([nn.relu(x), y], -1), X, normal(64, 32)),
    "zero padding": (lambda x: jnp.pad(x, ((0, 0), (2, 1), (3, 3), (0, 0))), SHIFTED),
    "reflection": (lambda x: jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), "reflect"), SHIFTED),
    "cropping": (lambda x: nn.relu(x)[:, 2:-2, 1:-3], SHIFTED),
    "upsampling, nearest": (lambda x: upsampled(x, "nearest"), SHIFTED),
    "upsampling, bilinear": (lambda x: upsampled(x, "bilinear"), SHIFTED),
    "permute": (lambda x: jnp.transpose(x, (0, 3, 1, 2)).mean(1), SHIFTED),
    "reshape": (lambda x: nn.relu(x).reshape(len(x), -1).mean(-1), SHIFTED),
    "repeat": (lambda x: jnp.repeat(x[:, None], 5, 1).sum(1), X),
    "masking": (lambda x: jnp.where(x > 0.5, x, 0.0), X),
    "gaussian noise": (lambda x, key: x + 0.5 * jax.random.normal(key, x.shape), X),
    "dot": (lambda x, y: jnp.einsum("bi,bi->b", x, y), X, X),
    "cosine": (
        lambda x, y: jnp.einsum("bi,bi->b", nn.activation.normalize(x), nn.activation.normalize(y)), normal(64, 128),
        normal(64, 128),
    ),
    # By sampling: one draw of the array itself, which is large enough here for 5 %.
    "cumulative sum": (lambda x: jnp.cumsum(x, axis=1), normal(4096, 32)),
    "softmax of scores": (lambda x: nn.softmax(4.0 * x, axis=-1), normal(64, 32)),
    "causal softmax": (lambda x: nn.softmax(jnp.where(jnp.tri(32, dtype=bool), x, -jnp.inf), axis=-1), normal(32, 32)),
    "sorted": (lambda x: jnp.sort(x, axis=-1)[:, -8:], normal(64, 32)),
    "top k": (lambda x: jax.lax.top_k(x, 4)[0], normal(64, 32)),
    "fast Fourier transform": (lambda x: jnp.fft.rfft(x, axis=-1).real, normal(4096, 32)),
}  # fmt: skip


# Those that are of a kind with others.
SLOW_FUNCTIONS = {
    "BatchNorm, running average", "GroupNorm", "InstanceNorm", "RMSNorm", "LayerNorm with a scale", "spatial dropout",
    "avg_pool", "avg_pool, 1 axis", "max_pool, 1 axis", "avg_pool, 3 axes", "max_pool, 3 axes", "min_pool",
    "max_pool", "global min pooling", "average", "subtract", "minimum", "cropping", "upsampling, nearest", "permute",
    "repeat", "gaussian noise", "fast Fourier transform", "top k", "dot", "softmax of scores",
}  # fmt: skip


@pytest.mark.some(2)
@pytest.mark.parametrize("name", names(FUNCTIONS, SLOW_FUNCTIONS))
def test_layers_without_weights(name):
    # The number of masked entries in a row goes through a normal copula, which has few rows of one entry.
    function_agrees(*FUNCTIONS[name], draws=32, **({"within": 0.1} if name == "causal softmax" else {}))


class Called(nn.Module):
    """A function of a module's own, around layers; where a table wants a module."""

    function: object

    @nn.compact
    def __call__(self, *x):
        return self.function(*x)


SEQUENCE = normal(4, 32, 64)
LAYERS = {
    "Dense": (nn.Dense(96), X),
    "Dense with bias": (nn.Dense(96, bias_init=nn.initializers.normal(0.5)), X),
    "DenseGeneral": (nn.DenseGeneral((4, 24), axis=(-2, -1)), normal(32, 8, 16)),
    "DenseGeneral, batched": (nn.DenseGeneral(32, axis=-1, batch_dims=(0,)), normal(8, 32, 64)),
    "Einsum": (nn.Einsum((64, 4, 24), "bti,ihd->bthd", use_bias=False), SEQUENCE),
    "Conv, 1 axis": (nn.Conv(96, (5,)), SEQUENCE),
    "Conv, causal": (nn.Conv(96, (5,), padding="CAUSAL"), SEQUENCE),
    "Conv, circular": (nn.Conv(96, (5,), padding="CIRCULAR"), SEQUENCE),
    "Conv, 2 axes": (nn.Conv(96, (3, 3), strides=2), IMAGE),
    "Conv, dilated": (nn.Conv(96, (3, 3), kernel_dilation=2), IMAGE),
    "Conv, holes in both": (nn.Conv(96, (3, 3), input_dilation=2, kernel_dilation=2, padding=2), normal(2, 6, 6, 64)),
    "Conv, groups": (nn.Conv(96, (3, 3), feature_group_count=8), IMAGE),
    "Conv, 3 axes": (nn.Conv(64, (3, 3, 3)), normal(2, 6, 6, 6, 32)),
    "Conv, depthwise": (nn.Conv(64, (5, 5), feature_group_count=64), IMAGE),
    "ConvLocal": (nn.ConvLocal(64, (3,)), SEQUENCE),
    "ConvTranspose, 1 axis": (nn.ConvTranspose(96, (4,), (2,)), SEQUENCE),
    "ConvTranspose, 2 axes": (nn.ConvTranspose(96, (3, 3), (2, 2)), normal(2, 6, 6, 64)),
    "ConvTranspose, 3 axes": (nn.ConvTranspose(64, (2, 2, 2), (2, 2, 2)), normal(2, 4, 4, 4, 32)),
    "WeightNorm": (nn.Sequential([nn.WeightNorm(nn.Dense(96)), nn.Dense(64)]), X),
    "WeightNorm last": (nn.Sequential([nn.Dense(96), nn.WeightNorm(nn.Dense(64))]), X),
    "Dense then BatchNorm": (nn.Sequential([nn.Dense(96), nn.BatchNorm(use_running_average=False), nn.relu]), X),
    "Dense, bfloat16": (nn.Sequential([nn.Dense(96, dtype=jnp.bfloat16), nn.gelu]), X),
    "SimpleRNN": (nn.RNN(nn.SimpleCell(64)), SEQUENCE),
    "GRU": (nn.RNN(nn.GRUCell(64)), SEQUENCE),
    "MGU": (nn.RNN(nn.MGUCell(64)), SEQUENCE),
    "LSTM": (nn.RNN(nn.LSTMCell(64)), SEQUENCE),
    "OptimizedLSTM": (nn.RNN(nn.OptimizedLSTMCell(64)), SEQUENCE),
    "LSTM, unrolled backwards": (nn.RNN(nn.LSTMCell(64), reverse=True, keep_order=True), SEQUENCE),
    "ConvLSTM": (nn.RNN(nn.ConvLSTMCell(32, (3, 3))), normal(2, 8, 6, 6, 32)),
    "Bidirectional": (nn.Bidirectional(nn.RNN(nn.LSTMCell(64)), nn.RNN(nn.LSTMCell(64))), SEQUENCE),
    "squeeze and excitation": (
        Called(lambda x: x * nn.sigmoid(nn.Dense(64)(nn.relu(nn.Dense(64)(x.mean((1, 2), keepdims=True)))))), IMAGE,
    ),
    "cross-attention": (
        Called(lambda x, y: nn.MultiHeadDotProductAttention(4)(x, y)), normal(4, 16, 128), normal(4, 24, 128),
    ),
    "WeightedSum": (Called(lambda x: qrjax.WeightedSum()(nn.Dense(64)(x), nn.relu(nn.Dense(64)(x)))), X),
}  # fmt: skip


# Attention: values and scores depend through the same inputs, by the number of
# positions over the width. Recurrences: a state's elements depend through the weights that all steps share.
LOOSE = {"cross-attention": 0.1} | dict.fromkeys(
    ["SimpleRNN", "GRU", "MGU", "LSTM", "OptimizedLSTM", "LSTM, unrolled backwards", "ConvLSTM", "Bidirectional"], 0.1
)


SLOW = {
    "MGU", "GRU", "LSTM", "OptimizedLSTM", "Bidirectional", "LSTM, unrolled backwards", "ConvLSTM", "cross-attention",
    "ConvTranspose, 1 axis", "ConvTranspose, 3 axes", "Conv, 3 axes", "Conv, circular", "Conv, dilated",
    "WeightNorm last", "DenseGeneral, batched", "squeeze and excitation", "ConvLocal", "Conv, 1 axis", "Dense",
    "ConvTranspose, 2 axes", "Conv, 2 axes", "Dense, bfloat16",
}  # fmt: skip
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in LAYERS]


# Cells like others, and axes of convolutions that others have.
ALIKE = (
    "MGU", "OptimizedLSTM", "LSTM, unrolled backwards", "ConvTranspose, 3 axes", "ConvTranspose, 1 axis",
    "Conv, 3 axes", "Conv, 1 axis", "Conv, circular", "DenseGeneral, batched", "Dense",
)  # fmt: skip


@pytest.mark.whole_tables(*ALIKE)
@pytest.mark.few("Conv, groups", "Conv, holes in both", "SimpleRNN", "WeightNorm")
@pytest.mark.parametrize("name", NAMES)
def test_layers_with_weights(name):
    module_agrees(*LAYERS[name], within=LOOSE.get(name, WITHIN))


def test_embeddings():
    ids = np.random.default_rng(0).integers(0, 50, (8, 4, 16), np.int32)
    report = module_agrees(nn.Embed(50, 64), predicted_ids(4, 16), arrays=[ids], draws=8)
    assert report[0].second_moment == pytest.approx(1.0)


def predicted_ids(*shape):
    return qrjax.Signal.constant(0.0, shape, np.int32)


@pytest.mark.parametrize("length", [128, pytest.param(512, marks=pytest.mark.slow)])
def test_self_attention_of_wide_heads(length):
    """Over independent positions, with scores that do not depend on the values: attention itself."""

    def attention(q, k, v):
        return nn.dot_product_attention(q, k, v)

    q, k, v = (normal(1, length, 2, 64) for _ in range(3))
    function_agrees(attention, q, k, v, draws=16)


NNX_LAYERS = {
    "Linear": (lambda r: nnx.Linear(128, 96, rngs=r), X),
    "Conv": (lambda r: nnx.Conv(64, 96, (3, 3), rngs=r), IMAGE),
    "Sequential": (lambda r: nnx.Sequential(nnx.Linear(128, 96, rngs=r), nnx.relu, nnx.Linear(96, 32, rngs=r)), X),
    "LayerNorm": (lambda r: nnx.Sequential(nnx.Linear(128, 96, rngs=r), nnx.LayerNorm(96, rngs=r), nnx.silu), X),
}


# Linen's are the same rules; one of NNX shows its way in.
@pytest.mark.parametrize("name", names(NNX_LAYERS, {"Linear", "Conv", "LayerNorm"}))
def test_nnx_layers(name):
    build, law = NNX_LAYERS[name]
    options = {"input_mean": law.mean, "input_variance": law.variance}
    module = build(nnx.Rngs(0))
    report = qrjax.analyze(module, shape_of(law), **options)
    squares = []
    for seed, x in enumerate(drawn([law], 4)[0]):
        made = qrjax.autoinit(module, shape_of(law), seed=seed, source="hash", distribution="uniform", **options)
        squares.append(np.square(np.asarray(made(x), np.float64)).mean())
    assert report.rows[-1].second_moment == pytest.approx(np.mean(squares), rel=WITHIN)


def test_measured_is_the_mean_over_draws():
    # Of the yardstick: E[x^2] of N(0.3, 2) within 5 sigma of 2^18 samples' mean.
    mean, second_moment = measured(lambda x: x, X, draws=32)
    squares = 2.09
    assert abs(second_moment - squares) <= 5 * np.sqrt(2 * 2.0**2 + 4 * 2.0 * 0.09) / 2**9
    assert abs(mean - 0.3) <= 5 * np.sqrt(2.0) / 2**9
    assert predicted(lambda x: x, X).second_moment == pytest.approx(squares)
