"""How people call: the module and the arguments of its call, sorted from ours, and what is no such thing refused."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._adapters._trace import UNSEEN, Arguments, hides_arrays, is_array
from qrjax._terminal._names import meant
from qrjax._terminal._received import is_key, received

# Names that our functions have themselves, so that a module's own argument cannot be passed by them.
OURS = frozenset(
    {"module", "variables", "sample_input", "seed", "key", "target", "input_mean", "input_variance", "distribution",
     "source", "layout", "select", "tied", "method", "rngs", "mutable", "calibrate", "report", "weights", "by", "axes",
     "call_kwargs", "gradients", "loss", "head", "branches", "optimizer", "outputs"}
)  # fmt: skip
# What these are where nobody gives them.
DEFAULTS = {"target": 1.0, "distribution": "truncated_normal", "source": "sobol", "layout": "outputs", "tied": "logits",
            "weights": "autoinit", "gradients": False, "optimizer": "adam"}  # fmt: skip
# For messages, to be formatted with such a name.
BY_NAME = "an argument of that name that the module's own call has goes into call_kwargs={{{0!r}: ...}}"


def arguments_of(
    module: Any, sample_input: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], call_kwargs: Any, method: Any,
    **taken: Any,
) -> Arguments:  # fmt: skip
    """What the module is called with; a sample input of None, with nothing behind it, is none.

    `taken` are arguments that ours have taken, which the call may have been meant to get.

    Raises:
      TypeError: if the sample input is no data, arrays lie where JAX does not see them, or the call has an argument
        whose name ours has and does not get it.
    """
    check_module(module, (sample_input, *args))
    check_inputs(module, sample_input, args, kwargs, method)
    positional = () if sample_input is None and not args else (sample_input, *args)
    named = {**kwargs, **_own(kwargs, call_kwargs)}
    taken["method"] = method
    for leaf in jax.tree.leaves((positional, named)):
        _check_argument(leaf)
    _check_hidden(module, method, positional, named, [name for name, value in taken.items() if _is_given(name, value)])
    return positional, named


def _is_given(name: str, value: Any) -> bool:
    """Whether somebody gave an argument of ours, as far as one can see."""
    default = DEFAULTS.get(name)
    return not (value is None or (default is not None and type(value) is type(default) and value == default))


def _own(kwargs: Mapping[str, Any], call_kwargs: Any) -> Mapping[str, Any]:
    if call_kwargs is None:
        return {}
    if not isinstance(call_kwargs, Mapping) or not all(isinstance(name, str) for name in call_kwargs):
        raise TypeError(
            "`call_kwargs` must be a dict of arguments of the module's own call, by name, got "
            f'{received(call_kwargs)}; as in {{"key": key}}'
        )
    twice = sorted(kwargs.keys() & call_kwargs.keys())
    if twice:
        raise TypeError(f"`call_kwargs` has {twice[0]!r}, which is given as a keyword too; pass it once")
    return call_kwargs


# -- the module ------------------------------------------------------------------------------------------------------


def is_pair(module: Any) -> bool:
    """Whether this is a pair of functions (init, apply)."""
    return isinstance(module, tuple) and len(module) == 2 and all(map(callable, module))


def is_module(value: Any) -> bool:
    """Whether this is one of the kinds of modules."""
    return is_pair(value) or _is_linen(value) or _is_nnx(value, "Module") or construction_of(value) is not None


def _is_linen(value: Any) -> bool:
    linen = sys.modules.get("flax.linen")  # who holds a module has loaded it
    return linen is not None and isinstance(value, linen.Module)


def _is_nnx(value: Any, *kinds: str) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, tuple(getattr(nnx, kind) for kind in kinds))


def opened(module: Any) -> Any:
    """The module, or of a function of a key, which is to make an NNX module, what that makes: traced, once.

    Each of our functions begins with it, so that its parts see one construction.
    """
    if not _is_maker(module):
        return module
    from qrjax._adapters._nnx import Construction

    return Construction(module)


def closed(module: Any) -> Any:
    """What `opened` was given, for functions of the user's."""
    made = construction_of(module)
    return module if made is None else made.make


def construction_of(module: Any) -> Any:
    """The `Construction` that this is, or None."""
    adapter = sys.modules.get("qrjax._adapters._nnx")
    return module if adapter is not None and isinstance(module, adapter.Construction) else None


def _is_maker(value: Any) -> bool:
    """Whether this is a function of a key alone."""
    if is_module(getattr(value, "__self__", None)) or not (
        inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, functools.partial)
    ):
        return False  # what else can be called is a model of another library, as a rule
    parameters = inspect.signature(value).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return len(needed) == 1 and needed[0].kind in positional


def check_module(module: Any, others: tuple[Any, ...]) -> None:
    """Nothing, if this is a module.

    Raises:
      TypeError: if it is not; with what may have been meant.
    """
    if not is_module(module):
        raise TypeError(
            "`module` must be a flax.linen.Module, a flax.nnx.Module, a function of a key that makes the latter "
            "or a pair of functions (init, apply), got "
            f"{received(module)}{_meant(module, others)}"
        )


def _meant(module: Any, others: tuple[Any, ...]) -> str:
    if isinstance(module, type):
        nnx = sys.modules.get("flax.nnx")
        keys = ", rngs=nnx.Rngs(0)" if nnx is not None and issubclass(module, nnx.Module) else ""
        return f"; make an instance, {module.__name__}(...{keys})"
    if is_module(getattr(module, "__self__", None)):
        return "; pass the module itself, and which of its methods to call as method="
    if any(map(is_module, others)):
        return "; the module comes first"
    if callable(module):
        return "; of a function f(params, x), pass (init, f), where init(key, x) makes its params"
    return ""


def check_variables(module: Any, variables: Any, inputs: tuple[Any, ...]) -> None:
    """Nothing, if these may be the module's variables.

    Raises:
      TypeError: if they cannot be, or the module is none.
      ValueError: if they are the parameters alone, without their collection's name.
    """
    check_module(module, (variables, *inputs))
    swapped = is_array(variables) and inputs and not is_array(inputs[0]) and _holds_arrays(inputs[0])
    if is_pair(module) and not (swapped and _made_differently(module, variables, inputs[0])):
        return
    linen = _is_linen(module)
    if isinstance(variables, Mapping) or (not linen and _is_nnx(variables, "State", "Module")):
        if linen and variables and "params" not in variables:
            raise ValueError(
                "`variables` must be the collections that module.init returned, {'params': ...}, got "
                f"{received(variables)}; of parameters alone pass {{'params': parameters}}"
            )
        return
    remedy = "the order is (module, variables, sample_input)" if swapped else "pass what autoinit returned"
    raise TypeError(
        f"`variables` must be what autoinit or the module's init returned, got {received(variables)}; {remedy}"
    )


def _holds_arrays(value: Any) -> bool:
    return any(map(is_array, jax.tree.leaves(value)))


def _made_differently(pair: Any, given: Any, other: Any) -> bool:
    """Whether the pair's init makes of the one argument what has the structure of the other."""
    try:
        made = jax.eval_shape(pair[0], jax.random.key(0), given)
    except Exception:  # whatever a person's init raises for what is not its input
        return False
    trees: list[Any] = [jax.tree.structure(tree) for tree in (made, other, given)]
    return bool(trees[0] == trees[1] != trees[2])


# -- the inputs ------------------------------------------------------------------------------------------------------


def check_inputs(module: Any, sample_input: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], method: Any) -> None:
    """Nothing, if the sample input may be data.

    Raises:
      TypeError: if it is a key, a shape, or numbers that are no array.
    """
    if is_module(sample_input):
        raise TypeError(f"`sample_input` must hold arrays, got {received(sample_input)}; the module comes first")
    if _is_nnx(sample_input, "State") or (isinstance(sample_input, Mapping) and _is_variables(module, sample_input)):
        raise TypeError(
            f"`sample_input` must be data, got variables, {received(sample_input)}; autoinit, analyze and record make "
            "their own: autoinit(module, x)"
        )
    if _is_keys(sample_input, args) and not _takes_key(module, method):
        raise TypeError(
            f"`sample_input` must be data, got {received(sample_input)}; the key of the weights is passed by name, as "
            "in autoinit(module, x, key=key), those of random streams as rngs={'dropout': key}, and a key that the "
            "module's own call takes first by its name there"
        )
    if isinstance(sample_input, (tuple, list)) and sample_input and all(map(_is_size, sample_input)):
        shape = tuple(int(n) for n in sample_input)
        raise TypeError(
            f"`sample_input` must hold arrays, got {received(sample_input)}; of a shape pass "
            f"jax.ShapeDtypeStruct({shape}, jnp.float32), of numbers np.array([...])"
        )
    for leaf in jax.tree.leaves(sample_input):
        # A number may be a setting beside arrays, such as a time; what is of another library is data.
        number = isinstance(leaf, (bool, int, float, complex, str)) and not _holds_arrays((sample_input, args, kwargs))
        if number or (not is_array(leaf) and hasattr(leaf, "__array__")):
            raise TypeError(
                f"`sample_input` must hold arrays of NumPy or JAX, got {received(leaf)}; np.asarray makes one"
            )


def _check_argument(leaf: Any) -> None:
    if is_array(leaf) and not all(isinstance(n, (int, np.integer)) for n in leaf.shape):
        raise TypeError(
            f"the call's arguments must have sizes that are numbers, got the symbolic {leaf.shape}; pass one of "
            "the shapes that it stands for"
        )
    if hides_arrays(leaf) and not is_module(leaf):
        raise TypeError(f"the call's arguments hold {received(leaf)}, {UNSEEN}")


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_variables(module: Any, value: Mapping[Any, Any]) -> bool:
    return _is_linen(module) and isinstance(value.get("params"), Mapping) and _holds_arrays(value)


def _is_keys(value: Any, args: tuple[Any, ...]) -> bool:
    """Whether this is what module.init takes first: a key, its raw words before data, or several by name."""
    if is_key(value) or _is_nnx(value, "Rngs", "RngStream"):
        return True
    if isinstance(value, Mapping) and value:
        return all(map(is_key, value.values()))
    raw = is_array(value) and value.dtype == np.uint32 and tuple(value.shape) in ((2,), (4,))
    return raw and any(map(is_array, jax.tree.leaves(args)))


def _takes_key(module: Any, method: Any) -> bool:
    """Whether the call's own first argument is named like a key."""
    found = _signature(module, method)
    first = next(iter(found.parameters), "") if found is not None else ""
    return any(word in first for word in ("key", "rng", "seed"))


# -- the call --------------------------------------------------------------------------------------------------------


def _signature(module: Any, method: Any) -> inspect.Signature | None:
    """That of the call, without the module itself; None where Python does not know it."""
    call = module[1] if is_pair(module) else method or "__call__"
    if isinstance(call, str):
        made = construction_of(module)
        kind = type(module if made is None else made.module)
        call = getattr(kind, call, kind.__call__)
    try:
        found = inspect.signature(call)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    parameters = list(found.parameters.values())
    own = is_pair(module) or not inspect.ismethod(call)  # params, or self
    return found.replace(parameters=parameters[1:] if own else parameters)


def _check_hidden(
    module: Any, method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], taken: Sequence[str]
) -> None:
    """Nothing, unless the call lacks an argument that ours has taken, or that only ours could have taken."""
    found = _signature(module, method)
    if found is None:
        return
    _check_spelling(found, kwargs)
    try:
        bound = found.bind_partial(*args, **kwargs).arguments
    except TypeError:
        return  # the call itself says what is wrong
    once = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, parameter in found.parameters.items():
        needed = parameter.kind in once and parameter.default is parameter.empty and name not in bound
        if needed and name in OURS:
            raise TypeError(f"the module's call lacks `{name}`; {BY_NAME.format(name)}")
        if parameter.kind in once and name in taken and name not in bound:
            raise TypeError(
                f"`{name}` may be meant for this function or for the module's own call, which has an argument of that "
                f"name; pass that one as call_kwargs={{{name!r}: ...}}, None to leave it out"
            )


def _check_spelling(call: inspect.Signature, kwargs: Mapping[str, Any]) -> None:
    """Nothing, unless an argument that the call has not is like one of ours."""
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in call.parameters.values()):
        return
    for name in kwargs:
        if name in OURS and name not in call.parameters:
            raise TypeError(
                f"neither this function nor the module's call has an argument `{name}`, only others of qrjax; "
                "leave it out"
            )
        if name not in call.parameters and (question := meant(name, [*sorted(OURS), *call.parameters])):
            raise TypeError(f"neither this function nor the module's call has an argument `{name}`{question}")


def note_spelling(error: TypeError, kwargs: Mapping[str, Any]) -> None:
    """Adds to what a call that takes any argument, as nn.Sequential's, says of one: which of ours may be meant."""
    for name in kwargs:
        question = meant(name, sorted(OURS)) if f"unexpected keyword argument '{name}'" in str(error) else ""
        if question:
            error.add_note(f"`{name}` is no argument of qrjax's, so the module's call got it{question}")
