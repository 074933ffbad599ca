"""What a TPU would be given: programs lowered for it where there is none, read for what it lacks or does slowly."""

import contextlib
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from initializers.members import EXACT, LAYOUTS, MEMBERS, SAMPLE, SCRAMBLES, SECOND_NAMES, Member, cases, digest
from stablehlo import Operation, exported, operations
from zoo.decoder import Decoder, Weights

import qrjax
from qrjax._autoinit._plan import BATCH

COMMITTED = json.loads((pathlib.Path(__file__).parents[1] / "initializers" / "digests.json").read_text())
KEY = jax.random.key_data(jax.random.key(3))
WIDE = {"i64", "ui64", "f64", "complex<f64>"}
LOOP = frozenset({"while", "dynamic_slice"})
LOOK_UP = LOOP | {"gather", "dynamic_update_slice"}
# Nothing here is wanted for a draw: branches, sorts, writes and reads at computed places, calls into a library.
SLOW = {
    "case", "if", "sort", "scatter", "select_and_scatter", "dynamic_gather", "custom_call", "rng_bit_generator",
    "all_gather", "all_reduce", "all_to_all", "collective_permute", *LOOK_UP,
}  # fmt: skip
# Joe and Kuo's whole table, 21,201 rows of six words: half a megabyte, of the 128 that lie beside a v5e's vector unit.
LARGEST_TABLE = 21_201 * 6
# A matrix so wide that what is done for each input hardly counts: 13 direction numbers against 4,096 weights.
SHAPE = (40, 4096)
QR_CALLS = frozenset({"Qr", "ProductOfElementaryHouseholderReflectors"})  # jax's own, which a TPU's compiler expands


class Allowed(NamedTuple):
    """What a program may hold beside plain arithmetic: names of operations, and the largest array they may touch."""

    names: frozenset[str] = frozenset()
    largest: int = 0
    calls: frozenset[str] = frozenset()
    wide: int = -1  # the largest array of 64-bit words


def faults(text: str, allowed: Allowed) -> list[Operation]:
    return [op for op in operations(text) if is_fault(op, allowed)]


def is_fault(op: Operation, allowed: Allowed) -> bool:
    if any(t.element in WIDE and t.size > allowed.wide for t in op.tensors):
        return True
    if op.name not in SLOW:
        return False
    if op.name == "custom_call":
        return op.target not in allowed.calls
    largest = max((t.size for t in op.tensors), default=0)
    return op.name not in allowed.names or largest > allowed.largest


def tpu_program(initializer: Any, shape: tuple[int, ...], dtype: str = "float32") -> str:
    return exported(lambda key: initializer(key, shape, dtype), KEY).mlir_module()


def draws() -> list[Any]:
    """Every builder in every dtype that it has; those that the fast tests of the builders leave out are slow here."""
    found = []
    for m in EXACT:
        dtypes = ["float32", "bfloat16", "float16", "complex64"]
        if m.stem in ("uniform", "truncated_normal", "random_uniform", "random_normal"):
            dtypes.remove("complex64")
        for dtype in dtypes:
            sampled = m.name in SAMPLE and dtype in ("float32", "complex64")
            found.append(pytest.param(m, dtype, id=f"{m.name} {dtype}", marks=() if sampled else pytest.mark.slow))
    return found


@pytest.mark.turns(3)
@pytest.mark.some(3)
@pytest.mark.parametrize(("m", "dtype"), draws())
def test_every_builder_is_arithmetic_on_32_bits_and_nothing_else(m: Member, dtype: str):
    assert faults(tpu_program(m.initializer, m.shape, dtype), Allowed()) == []


def layouts() -> list[Any]:
    found = []
    for layout in LAYOUTS:
        for scramble in SCRAMBLES:
            if scramble is None and layout in ("outputs", "neurons"):
                continue
            for dim in (None, 7):
                slow = scramble in ("shift", None) or (scramble == "linear" and dim is None)
                marks = pytest.mark.slow if slow else ()
                found.append(pytest.param(layout, scramble, dim, id=f"{layout} {scramble} {dim}", marks=marks))
    return found


def needs(layout: str, scramble: str | None, dim: int | None) -> Allowed:
    """Direction numbers looked up and worked out on the device, and the matrices that scramble them linearly.

    All of it is done for each input at most, and for as many numbers as an output's index has digits.
    """
    if layout == "points":
        linear, each = scramble == "linear", SHAPE[1].bit_length()  # a matrix has 32 rows
        return Allowed(LOOK_UP if linear else frozenset({"gather"}), (32 if linear else each) * SHAPE[0])
    if layout == "sequence" and dim is None:
        # A row for each dimension from which a key chooses: its direction numbers, seven words as they are packed.
        return Allowed(LOOK_UP | {"dynamic_slice"}, 1_111 * 7)
    return Allowed(LOOP, 32) if scramble == "linear" else Allowed()


@pytest.mark.turns(5)
@pytest.mark.some(4)
@pytest.mark.parametrize("law", ["uniform", pytest.param("normal", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("layout", "scramble", "dim"), layouts())
def test_every_layout_looks_up_directions_only(layout, scramble, dim, law):
    builder = qrjax.lecun_uniform_qr if law == "uniform" else qrjax.lecun_normal_qr
    init = builder(layout=layout, scramble=scramble, dim=dim)
    with pytest.warns(qrjax.RankCollapseWarning) if layout == "sequence" else contextlib.nullcontext():
        text = tpu_program(init, SHAPE)
    allowed = needs(layout, scramble, dim)
    assert allowed.largest <= SHAPE[0] * SHAPE[1] / 20
    assert faults(text, allowed) == []


@pytest.mark.parametrize(("outputs", "words"), [(512, 3), (2**18, 6), (2**19, 6)])
def test_points_of_all_dimensions_look_up_half_a_megabyte_at_most(outputs, words):
    text = tpu_program(qrjax.lecun_uniform_qr(layout="points"), (30_000, outputs))
    looked_up = [op for op in operations(text) if op.name == "gather"]
    largest = max(op.tensors[0].size for op in looked_up if len(op.tensors[0].shape) == 2)
    assert largest == LARGEST_TABLE * words // 6


ORTHOGONAL = [m for m in MEMBERS if m.orthogonal]


@pytest.mark.some(2)
@pytest.mark.parametrize("m", [pytest.param(m, id=m.name) for m in ORTHOGONAL])
def test_orthogonal_builders_call_a_factorization_and_read_its_diagonal(m: Member):
    text = tpu_program(m.initializer, m.shape)
    # The exception: a QR factorization is no arithmetic by element. `jnp.diagonal` brings a branch on the platform,
    # decided where the program is compiled, and the kernel's centre is written by one scatter.
    square = Allowed(frozenset({"case", "gather", "scatter"}), int(np.prod(m.shape)), QR_CALLS)
    assert faults(text, square) == []
    assert {op.target for op in operations(text) if op.name == "custom_call"} == QR_CALLS
    assert sum(op.name == "scatter" for op in operations(text)) == ("delta" in m.stem)


def test_the_table_of_builders_is_covered():
    drawn = {p.values[0].name for p in draws()} | {m.name for m in ORTHOGONAL}
    assert drawn == {m.name for m in MEMBERS if m.stem not in SECOND_NAMES}


IDS = jax.ShapeDtypeStruct((2, 16), jnp.int32)
SOURCES = {
    "default": (qrjax.lecun_normal_qr(), qrjax.normal_qr(0.02)),
    "hash": (qrjax.lecun_normal_hash(zero_mean=True), qrjax.truncated_normal_hash(0.02)),
}


def decoder(source: str, scanned: bool = False, dtype: Any = jnp.float32) -> Decoder:
    return Decoder(512, 2, 64, 4, 128, scanned, weights=Weights(*SOURCES[source], dtype))


class Small(nnx.Module):
    """A bit of everything."""

    def __init__(self, rngs: nnx.Rngs):
        init = qrjax.lecun_normal_qr()
        self.embed = nnx.Embed(500, 64, embedding_init=qrjax.normal_qr(0.02), rngs=rngs)
        self.convolution = nnx.Conv(64, 64, (3,), kernel_init=qrjax.he_normal_hash(), rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 64, decode=False, kernel_init=init, rngs=rngs)
        self.norm = nnx.LayerNorm(64, rngs=rngs)
        self.head = nnx.Linear(64, 500, kernel_init=init.stream("head"), rngs=rngs)

    def __call__(self, ids):
        return self.head(self.norm(self.attention(self.convolution(self.embed(ids)))))


def linen_init(source: str, **options: Any):
    module = decoder(source, **options)

    def draw(key):
        with jax.numpy_dtype_promotion("standard"):  # Flax's norms mix half precision with float32
            return module.init(key, jnp.zeros(IDS.shape, IDS.dtype))

    return draw


def autoinit_nnx(key):
    # Built outside of the trace, so that the walk knows the numbers in it that are not weights, as eagerly.
    with jax.ensure_compile_time_eval():
        module = Small(nnx.Rngs(0))
    return nnx.state(qrjax.autoinit(module, IDS, key=key))


def autoinit(**settings: Any):
    module = decoder("default", scanned=settings.pop("scanned", False))
    return lambda key: qrjax.autoinit(module, IDS, key=key, **settings)


STREAM = Allowed(LOOP, 128)  # the words of a stream's name, hashed one after another
STACKED = Allowed(LOOP | {"dynamic_update_slice"}, 2 * 64 * 128)  # what `nn.scan` does
FACTORS = Allowed(frozenset({"case", "gather", "dynamic_slice"}), 512 * 64, QR_CALLS)
# autoinit makes its keys in batches, from which each draw reads its own two words.
KEYS = Allowed(frozenset({"dynamic_slice"}), 2 * BATCH)
MODELS = {
    "Linen": (linen_init("default"), Allowed()),
    "Linen, hash": (linen_init("hash"), Allowed()),
    "Linen, bfloat16": (linen_init("default", dtype=jnp.bfloat16), Allowed()),
    # `jax.random.split`, of which a scan asks a key for each layer, counts in 64 bits.
    "Linen, scanned": (linen_init("default", scanned=True), STACKED._replace(wide=2)),
    "NNX": (lambda key: nnx.state(Small(nnx.Rngs(key))), STREAM),
    "autoinit": (autoinit(), KEYS),
    "autoinit, scanned": (autoinit(scanned=True), STACKED),
    "autoinit, hash": (autoinit(source="hash"), KEYS),
    "autoinit, neurons": (autoinit(layout="neurons", distribution="uniform"), KEYS),
    "autoinit, orthogonal": (autoinit(distribution="orthogonal"), FACTORS),
    "autoinit of NNX": (autoinit_nnx, KEYS),
}
FAST = ("autoinit, orthogonal",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MODELS]
)
def test_whole_models(name):
    draw, allowed = MODELS[name]
    assert faults(exported(draw, jax.random.key(0)).mlir_module(), allowed) == []


CASES = cases()
SAMPLED = list(CASES)[::29]


@pytest.mark.turns(3)
@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("platform", "name"),
    [
        *(("tpu", name) for name in SAMPLED),
        *(pytest.param("tpu", name, marks=pytest.mark.slow) for name in list(CASES)[1::3] if name not in SAMPLED),
        *(pytest.param("cuda", name, marks=pytest.mark.slow) for name in SAMPLED),
    ],
)
@pytest.mark.filterwarnings("ignore::qrjax.RankCollapseWarning")
def test_another_platforms_program_has_the_committed_digests_on_the_cpu(name, platform):
    init, shape, dtype = CASES[name]
    program = exported(lambda key: init(key, shape, dtype), jax.random.key(2024), platforms=(platform,), anywhere=True)
    assert digest(program.call(jax.random.key(2024))) == COMMITTED[name]


@pytest.mark.slow  # by default one platform's program at a time, above
@pytest.mark.parametrize("name", ["NNX", "autoinit of NNX"])
def test_one_program_for_every_platform_has_the_bits_of_each(name):
    draw, _ = MODELS[name]
    key = jax.random.key(5)
    program = exported(lambda data: jax.tree.leaves(draw(jax.random.wrap_key_data(data))), jax.random.key_data(key),
                       platforms=("cpu", "cuda", "tpu"))  # fmt: skip
    for found, expected in zip(program.call(jax.random.key_data(key)), jax.tree.leaves(draw(key)), strict=True):
        np.testing.assert_array_equal(found, expected)


def wide(x):
    with jax.enable_x64(True):
        return jax.lax.convert_element_type(jax.lax.convert_element_type(x, np.uint64) * np.uint64(3), np.uint32)


BAD = {
    "64-bit words": (wide, "multiply"),
    "a sort": (jnp.sort, "sort"),
    "a look-up by element": (lambda x: jnp.arange(1000, dtype=jnp.uint32)[x], "gather"),
    "a write by element": (lambda x: jnp.zeros(8, jnp.uint32).at[x].set(x), "scatter"),
    "a loop": (lambda x: jax.lax.fori_loop(jnp.uint32(0), x[0], lambda i, y: y * i, x), "while"),
    "a branch": (lambda x: jax.lax.cond(x[0] > 3, lambda y: y + 1, lambda y: y, x), "case"),
    "a library's call": (lambda x: jnp.linalg.qr(x.reshape(2, 2).astype(jnp.float32))[0], "custom_call"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_reading_finds(name):
    function, operation = BAD[name]
    text = exported(function, jnp.arange(4, dtype=jnp.uint32)).mlir_module()
    assert operation in {op.name for op in faults(text, Allowed())}


def test_the_reading_compares_sizes_and_names():
    text = exported(lambda x: jnp.arange(1000, dtype=jnp.uint32)[x], jnp.arange(4)).mlir_module()
    assert faults(text, Allowed(LOOK_UP, 1000)) == []
    assert [op.name for op in faults(text, Allowed(LOOK_UP, 999))] == ["gather"]
    assert [op.name for op in faults(text, Allowed(LOOP, 1000))] == ["gather"]


def test_a_streams_name_is_hashed_in_one_loop():
    text = tpu_program(qrjax.he_normal_qr().stream("decoder", 3), (48, 40))
    assert [op.name for op in faults(text, Allowed())].count("while") == 1
    assert faults(text, STREAM) == []
