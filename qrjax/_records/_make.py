"""`record`: how autoinit, or a module's own initialization, makes variables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array

from qrjax._autoinit._analyze import model_of
from qrjax._autoinit._calls import is_module, opened
from qrjax._autoinit._initialize import Prepared, prepare
from qrjax._autoinit._names import BY, By
from qrjax._autoinit._streams import PARAMS, key_of, streams_of
from qrjax._records._derived import rescaled
from qrjax._records._entries import Entry, planned, programmed
from qrjax._records._initialization import (
    FRAMEWORK,
    OPTIONS,
    arguments,
    called,
    check_initialized,
    check_inputs,
    constructed,
    framework,
    others,
)
from qrjax._records._record import Record
from qrjax._terminal._frames import frames_hidden
from qrjax._terminal._names import choice
from qrjax._words._keys import key_words, keys_like
from qrjax._words._transfers import transferring


@frames_hidden
@transferring
def record(
    module: Any,
    sample_input: Any = None,
    *args: Any,
    by: By = "autoinit",
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
    choice("by", by, BY)
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
            module = opened(module)
            prepared = prepare(module, called(module, sample_input, args, options, **taken), **_settings(options))
            entries, rebuild = _automatic(prepared, own, calibrate), prepared.model.rebuild
    return Record(tuple(entries), made, rebuild)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = dict.fromkeys(FRAMEWORK)
    return defaults | {name: options[name] for name in (*OPTIONS, *FRAMEWORK) if name in options}


def _automatic(prepared: Prepared, key: Array, calibrate: bool) -> list[Entry]:
    model, plans = prepared.model, prepared.plans
    corrections = {}
    if calibrate:
        from qrjax._autoinit._measure import corrections as measured

        flat = prepared.drawn(key)
        corrections = measured(model, flat, prepared.target, prepared.chosen, jax.random.key(0))
    rest = iter(others(model, [leaf.path not in plans for leaf in model.leaves], key, compiled=True))
    entries = []
    for leaf in model.leaves:
        correction = corrections.get(leaf.path)
        origin = planned(plans[leaf.path], key, correction) if leaf.path in plans else next(rest)
        again = prepared.rescaled.get(leaf.path)
        entries.append(Entry(leaf, origin if again is None else rescaled(leaf, origin, again, correction)))
    return entries


def _initialized(
    module: Any, sample_input: Any, args: tuple[Any, ...], options: dict[str, Any], key: Array
) -> tuple[list[Entry], Callable[[Sequence[Any]], Any]]:
    if sample_input is None and not args and not is_module(module):
        return constructed(module, key)
    unknown = [name for name in OPTIONS if name in options]
    if unknown:
        raise ValueError(f"`{unknown[0]}` belongs to by='autoinit'; a module's own initialization does not read it")
    module = opened(module)
    model = model_of(module, *called(module, sample_input, args, options), **framework(options))
    check_initialized(model)
    origins = programmed(model.initialization, model.leaves, [True] * len(model.leaves), arguments(model, key))
    entries = [Entry(leaf, origin) for leaf, origin in zip(model.leaves, origins, strict=True)]
    check_inputs(model, entries)
    return entries, model.rebuild


def _described(key: Array) -> dict[str, Any]:
    words = key_words(key).tolist()
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    return {"words": words, "impl": str(jax.random.key_impl(key)) if typed else None}
