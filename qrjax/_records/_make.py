"""`record`: how autoinit, or a module's own initialization, makes variables."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array

from qrjax._adapters._trace import Arguments
from qrjax._autoinit._analyze import model_of
from qrjax._autoinit._calls import arguments_of, is_module
from qrjax._autoinit._initialize import Prepared, prepare
from qrjax._autoinit._streams import PARAMS, key_of, streams_of
from qrjax._interpreter._model import Leaf, Model
from qrjax._records._entries import Entry, held, kept, planned, programmed, uses
from qrjax._records._offset import Offset
from qrjax._records._origins import Built, Drawn, Factored, Origin
from qrjax._records._record import Record, check_leaves
from qrjax._records._rescaled import Rescaled, rescaled
from qrjax._records._transposed import Transposed
from qrjax._terminal._frames import frames_hidden
from qrjax._terminal._received import received
from qrjax._words._keys import key_words, keys_like, typed_key


@frames_hidden
def record(
    module: Any,
    sample_input: Any = None,
    *args: Any,
    by: str = "autoinit",
    seed: int | None = None,
    key: Array | None = None,
    calibrate: bool = False,
    **options: Any,
) -> Record:
    """How `qrjax.autoinit`, or a plain `module.init`, makes the variables of a model.

    Nothing of the model's size is drawn or stored: a Record holds, for every variable, the distribution, the
    scale, the key and the address rule, so that any weight can be computed again by itself.

    Args:
      module, sample_input, *args, **options: as in `qrjax.autoinit`, with its options. With by="init" the module
        may also be a function of a key that returns variables or an NNX module, such as
        lambda key: Network(rngs=nnx.Rngs(key)); it takes no sample input.
      by: "autoinit"; or "init" for variables from `module.init(key, sample_input)`. Builders that are not
        qrjax's may be among the module's: constants are recorded, others are run when asked for.
      seed, key: as in `qrjax.autoinit`, with the same default; not traced. With by="init" the key of `module.init`,
        which has to be given.
      calibrate: as in `qrjax.autoinit`; this draws the model once, to measure it.

    Returns:
      A `qrjax.Record`.

    Raises:
      ValueError, TypeError: as `qrjax.autoinit`; if `by` is neither, or the key is traced; and, with by="init", if
        no key is given, or an initial value depends on an input of which only the shape is given.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, qrjax
      >>> x, key = jnp.ones((1, 28, 28, 1)), jax.random.key(3)
      >>> layer = nn.Conv(32, (3, 3), kernel_init=qrjax.he_normal_hash())
      >>> record = qrjax.record(layer, x, by="init", key=key)
      >>> kernel = layer.init(key, x)["params"]["kernel"]
      >>> bool((record.weight("kernel", (..., 5)) == kernel[..., 5]).all())
      True
    """
    if by not in ("autoinit", "init"):
        raise ValueError(f"`by` must be 'autoinit' or 'init', got {received(by)}")
    taken = {"seed": seed, "key": key, "rngs": options.get("rngs")}
    options["rngs"] = streams_of(options.get("rngs"))
    if by == "init" and seed is None and key is None and PARAMS not in options["rngs"].keys:
        raise ValueError(
            "`key` must be given with by='init': module.init's own, as in record(module, x, by='init', key=key)"
        )
    own = key_of(seed, key, options["rngs"])
    if isinstance(own, jax.core.Tracer):
        raise TypeError("`key` (or `seed`) of a record must not be traced: it is written down")
    version = sys.modules["qrjax"].__version__
    made = {"by": by, "key": _described(own if key is None else key), "qrjax": version, "jax": jax.__version__}
    if by == "init" and calibrate:
        raise ValueError("`calibrate` belongs to by='autoinit'; qrjax.calibrate changes weights after their record")
    with keys_like(own):
        if by == "init":
            entries, rebuild = _initialized(module, sample_input, args, options, own)
        else:
            prepared = prepare(module, _called(module, sample_input, args, options, **taken), **_settings(options))
            entries, rebuild = _automatic(prepared, own, calibrate), prepared.model.rebuild
    return Record(tuple(entries), made, rebuild)


OPTIONS = ("target", "input_mean", "input_variance", "distribution", "source", "layout", "select", "tied")
FRAMEWORK = ("method", "rngs", "mutable", "axes")


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = dict.fromkeys(FRAMEWORK)
    return defaults | {name: options[name] for name in (*OPTIONS, *FRAMEWORK) if name in options}


def _framework(options: dict[str, Any]) -> dict[str, Any]:
    """What is the framework's."""
    return {name: options.get(name) for name in FRAMEWORK}


def _rest(options: dict[str, Any]) -> dict[str, Any]:
    """What is the module's own."""
    return {name: value for name, value in options.items() if name not in (*OPTIONS, *FRAMEWORK, "call_kwargs")}


def _called(module: Any, sample_input: Any, args: tuple[Any, ...], options: dict[str, Any], **taken: Any) -> Arguments:
    """What the module is called with."""
    own, method = options.get("call_kwargs"), options.get("method")
    taken |= {name: options.get(name) for name in (*OPTIONS, "axes")}
    return arguments_of(module, sample_input, args, _rest(options), own, method, **taken)


def _automatic(prepared: Prepared, key: Array, calibrate: bool) -> list[Entry]:
    model, plans = prepared.model, prepared.plans
    corrections = {}
    if calibrate:
        from qrjax._autoinit._measure import corrections as measured

        flat = prepared.drawn(key)
        corrections = measured(model, flat, prepared.target, prepared.chosen, jax.random.key(0))
    others = iter(_others(model, [leaf.path not in plans for leaf in model.leaves], key, compiled=True))
    entries = []
    for leaf in model.leaves:
        correction = corrections.get(leaf.path)
        origin = planned(plans[leaf.path], key, correction) if leaf.path in plans else next(others)
        again = prepared.rescaled.get(leaf.path)
        entries.append(Entry(leaf, origin if again is None else rescaled(leaf, origin, again, correction)))
    return entries


def _others(model: Model, needed: Sequence[bool], key: Array, compiled: bool) -> list[Origin]:
    """The origins of the needed variables: from the model's own initialization, or the arrays that it holds."""
    if model.initialization is not None:
        found = programmed(model.initialization, model.leaves, needed, _arguments(model, key), compiled)
        return [origin for origin in found if origin is not None]
    leaves = [leaf for leaf, need in zip(model.leaves, needed, strict=True) if need]
    arrays = model.materialize(key, needed)
    return [kept(leaf, array) or held(leaf, array) for leaf, array in zip(leaves, arrays, strict=True)]


def _arguments(model: Model, key: Array) -> list[Any]:
    """Of the initialization; inputs of which only shapes are known as zeros, which it hardly ever reads."""
    shapes = [jax.numpy.zeros(a.shape, a.dtype) if isinstance(a, jax.ShapeDtypeStruct) else a for a in model.inputs]
    return [key, *shapes]


def _initialized(
    module: Any, sample_input: Any, args: tuple[Any, ...], options: dict[str, Any], key: Array
) -> tuple[list[Entry], Callable[[Sequence[Any]], Any]]:
    if sample_input is None and not args and not is_module(module):
        return _constructed(module, key)
    unknown = [name for name in OPTIONS if name in options]
    if unknown:
        raise ValueError(f"`{unknown[0]}` belongs to by='autoinit'; a module's own initialization does not read it")
    model = model_of(module, *_called(module, sample_input, args, options), **_framework(options))
    _check_initialized(model)
    origins = programmed(model.initialization, model.leaves, [True] * len(model.leaves), _arguments(model, key))
    entries = [Entry(leaf, origin) for leaf, origin in zip(model.leaves, origins, strict=True)]
    _check_inputs(model, entries)
    return entries, model.rebuild


def _check_initialized(model: Model) -> None:
    """Nothing, if the model has an initialization."""
    if model.initialization is None:
        raise TypeError(
            "`module` holds its variables already, so their key is not known; pass the function that makes it: "
            "qrjax.record(lambda key: Network(rngs=nnx.Rngs(key)), key=key, by='init'), and so to with_model"
        )


def _check_inputs(model: Model, entries: Sequence[Entry]) -> None:
    """Nothing, if no initial value is computed from an input of which only the shape is known."""
    shapes = [isinstance(a, jax.ShapeDtypeStruct) for a in model.inputs]
    for number, entry in enumerate(entries if any(shapes) else ()):
        if not isinstance(entry.origin, Built):
            continue
        if any(a and b for a, b in zip(shapes, uses(model.initialization, number)[1:], strict=True)):
            raise ValueError(
                f"the initial values of {entry.leaf.path!r} depend on `sample_input`, of which only the shape is "
                "given; pass the array that module.init was called with"
            )


def _constructed(make: Any, key: Array) -> tuple[list[Entry], Callable[[Sequence[Any]], Any]]:
    """From a function of a key."""
    from qrjax._adapters._variables import leaves_of, traced_variables

    if not callable(make):
        raise TypeError(
            f"`module` must be a module, or a function of a key where no sample input is given, got {received(make)}"
        )
    program, shapes, rebuild = traced_variables(make, key)
    leaves: list[Leaf] = leaves_of(shapes)
    origins = programmed(program, leaves, [True] * len(leaves), [key])
    return [Entry(leaf, origin) for leaf, origin in zip(leaves, origins, strict=True)], rebuild


def attached(
    record: Record, module: Any, sample_input: Any, args: tuple[Any, ...], kwargs: dict[str, Any], key: Array | None
) -> Record:
    """A record with the code of its model, for builders that are not ours."""
    rest = {name: value for name, value in kwargs.items() if name not in OPTIONS}
    rest["rngs"] = streams_of(rest.get("rngs"))
    given = key is not None or PARAMS in rest["rngs"].keys
    key = key_of(None, key, rest["rngs"]) if given else typed_key(_key_of(record))
    if sample_input is None and not args and not is_module(module):
        entries, rebuild = _constructed(module, key)
    else:
        compiled = record.made.get("by") == "autoinit"
        with keys_like(key):
            arguments = _called(module, sample_input, args, rest)
            model = model_of(module, *arguments, **_framework(rest))
        if not compiled:
            _check_initialized(model)
        check_leaves([e.leaf for e in record.entries], model.leaves)
        ours = {e.leaf.path for e in record.entries if _is_planned(e)}
        own = iter(_others(model, [leaf.path not in ours for leaf in model.leaves], key, compiled))
        origins = {e.leaf.path: e.origin for e in record.entries}
        entries = [Entry(v, origins[v.path] if v.path in ours else next(own)) for v in model.leaves]
        if not compiled:
            _check_inputs(model, entries)
        rebuild = model.rebuild
    check_leaves([e.leaf for e in record.entries], [e.leaf for e in entries])
    known = {entry.leaf.path: entry for entry in record.entries}
    chosen = [Entry(e.leaf, _with_code(known[e.leaf.path].origin, e.origin)) for e in entries]
    return Record(tuple(chosen), record.made, rebuild)


def _with_code(recorded: Origin, found: Origin) -> Origin:
    """What was recorded, with the model's own values where it needs the model."""
    if isinstance(recorded, Rescaled):
        return dataclasses.replace(recorded, whole=_with_code(recorded.whole, found))
    return found if isinstance(recorded, Built) else recorded


def _is_planned(entry: Entry) -> bool:
    """Whether `autoinit` drew this weight, rather than the model's own initialization."""
    origin = entry.origin.whole if isinstance(entry.origin, Transposed) else entry.origin
    if isinstance(origin, Rescaled):
        return isinstance(origin.whole, Offset)
    return isinstance(origin, (Drawn, Factored)) and bool(origin.factors)


def _described(key: Array) -> dict[str, Any]:
    words = key_words(key).tolist()
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    return {"words": words, "impl": str(jax.random.key_impl(key)) if typed else None}


def _key_of(record: Record) -> Array:
    words = jax.numpy.asarray(record.made["key"]["words"], jax.numpy.uint32)
    impl = record.made["key"]["impl"]
    return words if impl is None else jax.random.wrap_key_data(words, impl=impl)
