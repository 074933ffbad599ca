"""Single tensors drawn in parts: the table of initializers, meshes and partitions, and the ways to ask for parts.

Run by `devices.run`, on 8 devices.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import devices
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qrjax

KEY = 3
MEMBERS = {
    "uniform": qrjax.uniform_qr(),
    "normal": qrjax.normal_qr(),
    "truncated normal": qrjax.truncated_normal_qr(0.5),
    "bfloat16": qrjax.he_normal_qr(dtype=jnp.bfloat16),
    "embedding": qrjax.variance_scaling_qr(1.0, "fan_in", "normal", out_axis=0),
    "complex": qrjax.he_uniform_qr(dtype=jnp.complex64),
    "hash": qrjax.he_normal_hash(),
    "hash bfloat16": qrjax.glorot_uniform_hash(dtype=jnp.bfloat16),
    "zero mean": qrjax.he_normal_hash(zero_mean=True).stream("query"),
    "sequence": qrjax.he_normal_qr(layout="sequence"),
    "sequence plain": qrjax.uniform_qr(layout="sequence", dim=3, scramble=None),
    "shuffled": qrjax.he_normal_qr(layout="shuffled"),
    "neurons": qrjax.he_normal_qr(layout="neurons"),
    "points": qrjax.he_normal_qr(layout="points"),
}
# Whose draws look up, or factorize, what a key says.
BY_MATRIX = {"sequence": MEMBERS["sequence"], "orthogonal": qrjax.orthogonal_qr()}
# Of those that are drawn alike one each.
KINDS = ("bfloat16", "complex", "zero mean", "sequence", "sequence plain", "shuffled", "neurons", "points", "normal")
MESHES = {(8,): "x", (4, 2): "xy", (2, 2, 2): "xyz"}
# Of a matrix: its rows, its columns, both; by one axis of the mesh, and by several together.
PARTITIONS: dict[tuple[int, ...], tuple[P, ...]] = {
    (8,): (P("x", None), P(None, "x")),
    (4, 2): (P("x", None), P(None, "y"), P("x", "y"), P("y", "x"), P(("x", "y"), None), P(None, ("y", "x"))),
    (2, 2, 2): (P("z", None), P("x", "y"), P(("x", "z"), "y"), P("z", ("y", "x")), P(None, ("x", "y", "z"))),
}


class Case(NamedTuple):
    member: str
    shape: tuple[int, ...]
    mesh: tuple[int, ...]
    spec: P
    way: str

    @property
    def init(self) -> Any:
        return MEMBERS[self.member]

    def sharding(self, kind: AxisType) -> NamedSharding:
        names = tuple(MESHES[self.mesh])
        return NamedSharding(jax.make_mesh(self.mesh, names, axis_types=(kind,) * len(names)), self.spec)


class Found(NamedTuple):
    """An array in parts, and the program that made it, where one did."""

    array: Array
    sharding: NamedSharding
    program: jax.stages.Compiled | None


def compiled(make: Callable[[Array], Array], sharding: NamedSharding, **options: Any) -> Found:
    program = jax.jit(make, **options).lower(key()).compile()
    return Found(program(key()), sharding, program)


def key() -> Array:
    return jax.random.key(KEY)


def by_out_shardings(case: Case, kind: AxisType) -> Found:
    sharding = case.sharding(kind)
    return compiled(lambda k: case.init(k, case.shape), sharding, out_shardings=sharding)


def by_out_sharding(case: Case, kind: AxisType) -> Found:
    """A PartitionSpec, within a mesh; and outside one a NamedSharding, without a `jit` of the caller's."""
    sharding = case.sharding(kind)
    eager = case.init(key(), case.shape, out_sharding=sharding)
    with jax.set_mesh(sharding.mesh):
        found = compiled(lambda k: case.init(k, case.shape, out_sharding=case.spec), sharding)
    assert eager.sharding.is_equivalent_to(sharding, len(case.shape))
    np.testing.assert_array_equal(words(eager), words(found.array))
    return found


def by_callback(case: Case, kind: AxisType) -> Found:
    sharding, draw = case.sharding(kind), functools.partial(case.init.at, key(), case.shape)
    return Found(jax.make_array_from_callback(case.shape, sharding, draw), sharding, None)


def by_shard_map(case: Case, kind: AxisType) -> Found:
    """Each device draws its own by address."""
    sharding = case.sharding(kind)
    local = sharding.shard_shape(case.shape)

    def draw(k: Array) -> Array:
        begin = [_position(names) * n for names, n in zip(case.spec, local, strict=True)]
        index = (b + np.arange(n, dtype=np.int32) for b, n in zip(begin, local, strict=True))
        return case.init.at(k, case.shape, jnp.ix_(*index))

    return compiled(jax.shard_map(draw, mesh=sharding.mesh, in_specs=P(), out_specs=case.spec), sharding)


def _position(names: Any) -> Any:
    """Of this device's part along an axis of the array."""
    return 0 if names is None else jax.lax.axis_index(names)


def padded(case: Case) -> tuple[int, ...]:
    """The shape with as many zeros at the ends of its axes as a division without a remainder needs."""
    sizes = dict(zip(MESHES[case.mesh], case.mesh, strict=True))
    parts = [math.prod(sizes[name] for name in _names(entry)) for entry in case.spec]
    return tuple(-(-n // count) * count for n, count in zip(case.shape, parts, strict=True))


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def by_padding(case: Case, kind: AxisType) -> Found:
    sharding = case.sharding(kind)
    widths = [(0, to - n) for to, n in zip(padded(case), case.shape, strict=True)]
    return compiled(lambda k: jnp.pad(case.init(k, case.shape), widths), sharding, out_shardings=sharding)


def by_padded_callback(case: Case, kind: AxisType) -> Found:
    """The last parts are shorter, and filled up with zeros."""
    sharding = case.sharding(kind)

    def draw(index: tuple[slice, ...]) -> np.ndarray:
        part = np.asarray(case.init.at(key(), case.shape, index))
        wanted = [len(range(*s.indices(n))) for s, n in zip(index, whole, strict=True)]
        return np.pad(part, [(0, to - n) for to, n in zip(wanted, part.shape, strict=True)])

    whole = padded(case)
    return Found(jax.make_array_from_callback(whole, sharding, draw), sharding, None)


WAYS: dict[str, Callable[[Case], Found]] = {
    "out_shardings": functools.partial(by_out_shardings, kind=AxisType.Auto),
    "out_shardings, explicit": functools.partial(by_out_shardings, kind=AxisType.Explicit),
    "out_sharding": functools.partial(by_out_sharding, kind=AxisType.Auto),
    "out_sharding, explicit": functools.partial(by_out_sharding, kind=AxisType.Explicit),
    "callback": functools.partial(by_callback, kind=AxisType.Auto),
    "shard_map": functools.partial(by_shard_map, kind=AxisType.Auto),
    "padding": functools.partial(by_padding, kind=AxisType.Auto),
    "padded callback": functools.partial(by_padded_callback, kind=AxisType.Auto),
}
EVEN = tuple(way for way in WAYS if "pad" not in way)
UNEVEN = tuple(way for way in WAYS if "pad" in way)
# A table is a few words for every row or column of a part, so the smallest parts are 256 wide.
EVEN_SHAPES = ((2048, 2048), (2048, 1021), (1021, 2048), (3, 3, 256, 2048))
UNEVEN_SHAPES = ((1021, 2037),)
# GPT-2's vocabulary, which nothing divides.
VOCABULARY = [
    Case("normal", (50_257, 768), (8,), P(None, "x"), "out_shardings"),
    Case("embedding", (50_257, 768), (8,), P(None, "x"), "out_shardings"),
    Case("uniform", (768, 50_257), (4, 2), P(("x", "y"), None), "out_sharding, explicit"),
    Case("hash", (50_257, 768), (2, 2, 2), P("x", ("y", "z")), "padding"),
    Case("normal", (50_257, 768), (8,), P("x", None), "padded callback"),
]


def table(members: Iterable[str], ways: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> list[Case]:
    """Every initializer with every partition; of the ways and shapes that fit, one each in turn."""
    parted = [(mesh, spec) for mesh, specs in PARTITIONS.items() for spec in specs]
    cases = []
    for turn, (member, (mesh, spec)) in enumerate(itertools.product(members, parted)):
        whole = {shape: P(*[None] * (len(shape) - 2), *spec) for shape in shapes}
        fitting = [Case(member, shape, mesh, whole[shape], way) for way in ways for shape in shapes]
        fitting = [case for case in fitting if fits(case)]
        cases.append(fitting[turn % len(fitting)])
    return cases


def fits(case: Case) -> bool:
    if case.member == "embedding" and len(case.shape) > 2:
        return False
    return case.way in UNEVEN or padded(case) == case.shape


def covering(cases: list[Case]) -> list[Case]:
    """A few of the cases, in which everything that occurs in one of them occurs."""
    missing, chosen = set().union(*map(parts, cases)), []
    while missing:
        best = max(cases, key=lambda case: len(missing & parts(case)))
        chosen.append(best)
        missing -= parts(best)
    return chosen


def parts(case: Case) -> set[tuple[int, Any]]:
    """What occurs in it. A convolution is parted along the axes that a matrix has too."""
    return set(enumerate(case._replace(spec=case.spec[-2:])))


TABLES = {
    "kinds": table(KINDS, EVEN, EVEN_SHAPES),
    "even": table(MEMBERS, EVEN, EVEN_SHAPES),
    "uneven": table(("uniform", "bfloat16", "hash", "zero mean", "sequence"), UNEVEN, UNEVEN_SHAPES),
    "vocabulary": VOCABULARY,
}


def words(array: Any) -> np.ndarray:
    """Bits, so that neither -0.0 nor a NaN is equal to what it is not."""
    array = np.ascontiguousarray(array)
    return array.view(f"u{array.itemsize}")


@functools.lru_cache(maxsize=2)
def alone(member: str, shape: tuple[int, ...]) -> np.ndarray:
    """On one device."""
    made = MEMBERS[member](key(), shape)
    assert len(made.sharding.device_set) == 1
    return np.asarray(made)


def check(case: Case) -> dict[str, Any]:
    """What the tests ask of a case, as plain values."""
    found = WAYS[case.way](case)
    assert found.array.sharding.is_equivalent_to(found.sharding, len(case.shape))
    assert len(found.array.addressable_shards) == 8
    widths = [(0, to - n) for to, n in zip(found.array.shape, case.shape, strict=True)]
    expected = words(np.pad(alone(case.member, case.shape), widths))
    equal = [np.array_equal(words(shard.data), expected[shard.index]) for shard in found.array.addressable_shards]
    result = {"case": f"{case.member} {case.shape} {case.mesh} {case.spec} {case.way}", "equal": all(equal)}
    if found.program is None:
        return result
    talk, share = devices.collectives(found.program), devices.temporaries(found.program)
    return result | {"member": case.member, "collectives": talk, "temporaries": share}


def checks(tables: dict[str, int]) -> list[dict[str, Any]]:
    """Of every how many-th case of each table; 0: of a covering."""
    devices.strict()
    assert jax.device_count() == 8
    chosen = [TABLES[name][::every] if every else covering(TABLES[name]) for name, every in tables.items()]
    return [check(case) for case in itertools.chain(*chosen)]


def others(every: int) -> dict[str, Any]:
    """What needs no table; an index in parts of every how many-th member."""
    devices.strict(optimized=False)
    pointwise = [name for name in MEMBERS if name not in BY_MATRIX]
    return {
        "orthogonal": [orthogonal(f"orthogonal_{source}") for source in ("qr", "hash")[: 1 if every > 1 else 2]],
        "remainders": remainders(),
        "vectors": [vector(name, 50_256) for name in ("sequence plain", "truncated normal")],
        "gathered": gathered(),
        "indexed": [indexed(name) for name in [*MEMBERS][3::every]],
        "of keys": [of_keys(name) for name in (*BY_MATRIX, *pointwise[:: 2 * every])],
    }


def orthogonal(builder: str) -> dict[str, Any]:
    """A factorization is not pointwise: every device makes the whole, and keeps its part."""
    init, shape = getattr(qrjax, builder)(), (3, 3, 8, 12)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, P(None, None, "x", "y"))
    found = compiled(lambda k: init(k, shape), sharding, out_shardings=sharding)
    with jax.set_mesh(mesh):
        eager = init(key(), shape, out_sharding=sharding.spec)
    assert eager.sharding.is_equivalent_to(sharding, 4)
    equal = all(np.array_equal(words(array), words(init(key(), shape))) for array in (found.array, eager))
    return {"equal": equal, "collectives": devices.collectives(found.program)}


def remainders() -> dict[str, str]:
    """What JAX says, by way, to a division with one. A mere constraint, the way left out, it drops in silence."""
    answers = {}
    for way in ("out_shardings", "out_shardings, explicit", "out_sharding, explicit", "callback"):
        try:
            WAYS[way](Case("hash", (50_257, 8), (8,), P("x", None), way))
        except ValueError as error:
            answers[way] = str(error)
    return answers


def vector(name: str, length: int) -> dict[str, Any]:
    init = MEMBERS[name]
    sharding = NamedSharding(jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,)), P("x"))
    found = compiled(lambda k: init(k, (length,)), sharding, out_shardings=sharding)
    equal = np.array_equal(words(found.array), words(init(key(), (length,))))
    return {"equal": equal, "collectives": devices.collectives(found.program)}


def gathered() -> list[str]:
    """Of a program that does need the other devices: what `collectives` is expected to see."""
    sharding = Case("hash", (64, 64), (8,), P("x", None), "").sharding(AxisType.Auto)
    weights = jax.device_put(MEMBERS["hash"](key(), (64, 64)), sharding)
    return devices.collectives(jax.jit(lambda w: (w.sum(), w - w.T), out_shardings=None).lower(weights).compile())


def indexed(name: str) -> dict[str, Any]:
    """`init.at` within an explicit mesh, with an index that lies in parts, as what it gives does then."""
    init, shape, rows = MEMBERS[name], (64, 32), np.arange(0, 64, 2, dtype=np.int32)
    whole = words(init(key(), shape))[rows]
    with jax.set_mesh(jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)):
        parted = jax.device_put(rows, P("x"))
        program = jax.jit(lambda k, at: init.at(k, shape, (at,))).lower(key(), parted).compile()
        found = program(key(), parted)
    equal = found.sharding.spec[0] == "x" and np.array_equal(words(found), whole)
    return {"equal": bool(equal), "collectives": devices.collectives(program)}


def of_keys(name: str) -> dict[str, Any]:
    """A tensor for every key, where keys lie in parts on an explicit mesh, along one axis and along both."""
    init, shape = (MEMBERS | BY_MATRIX)[name], (12, 8)
    keys = jax.random.split(key(), 4)
    each = np.stack([words(init(k, shape)) for k in keys])
    many = jax.vmap(lambda k: init(k, shape))
    with jax.set_mesh(jax.make_mesh((2, 2), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)):
        lines = jax.device_put(keys, P(("x", "y"))), jax.device_put(keys.reshape(2, 2), P("x", "y"))
        found = [jax.jit(draw)(given) for draw, given in zip((many, jax.vmap(many)), lines, strict=True)]
    equal = [np.array_equal(words(one).reshape(each.shape), each) for one in found]
    parted = found[0].sharding.spec[0] == ("x", "y") and found[1].sharding.spec[:2] == ("x", "y")
    return {"equal": all(equal), "parted": parted}
