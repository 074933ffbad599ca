"""A model by its name on the command line: MODULE:NAME, imported and, where it is a class or a function, called."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click

from qrjax._cli._arguments import nearest
from qrjax._cli._causes import own_code
from qrjax._cli._failure import Failure

NAME = "MODULE:NAME"
# Arguments of a module's class that --arg does not give.
NOT_GIVEN = ("parent", "name", "rngs", "args", "kwargs")
KINDS = "a Linen or NNX module, a class or function that gives one, or a pair of functions (init, apply)"


class Offered(NamedTuple):
    """A model that a module has: what it is called here, its kind, and the arguments of its class."""

    name: str
    kind: str
    arguments: str


def models_in(place: str) -> list[Offered]:
    """The models of a module.

    Raises:
      click.BadParameter: if it has none.
    """
    module = _imported(place)
    found = [Offered(f"{place}:{name}", *_described(vars(module)[name])) for name in _names(module)]
    if not found:
        raise _wrong(f"must name {KINDS}; {place!r} has none")
    return found


def model_at(target: str, arguments: Mapping[str, Any]) -> Any:
    """The model that `target` names; `arguments` are those of its class or function."""
    place, colon, name = target.rpartition(":")
    place, name = (place, name) if colon else (name, "")
    module = _imported(place)
    offered = _offered(place, module)
    if not name:
        raise _wrong(f"must name a model after a colon, got {target!r}{offered}")
    return _model(name, _attribute(place, module, name, offered), arguments, offered)


def maker_at(target: str, arguments: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The function of a key that `target` names, or that makes an NNX module of the class that it names."""
    from flax import linen, nnx

    place, _, name = target.rpartition(":")
    module = _imported(place or target)
    offered = _offered(place or target, module)
    if not place:
        raise _wrong(f"must name a model after a colon, got {target!r}{offered}")
    found = _attribute(place, module, name, offered)
    if inspect.isclass(found) and issubclass(found, nnx.Module):
        return lambda key: found(**{**arguments, "rngs": nnx.Rngs(key)})
    if not callable(found) or isinstance(found, linen.Module) or inspect.isclass(found):
        raise click.BadParameter(
            f"must say what {name!r} is called with, such as --input 1,28,28,1; only a function of a key and an NNX "
            "class need none", param_hint="--input",
        )  # fmt: skip
    return lambda key: found(key, **arguments)


def _imported(place: str) -> ModuleType:
    is_file = place.endswith(".py")
    if not (is_file or all(map(str.isidentifier, place.split(".")))):
        raise _wrong(f"must begin with a dotted module or the path of a .py file, got {place!r}")
    folder, name = _importable(Path(place)) if is_file else (Path.cwd(), place)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    with own_code(f"{place!r} cannot be imported"):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not _is_part(error.name, name):
                raise
            raise _wrong(
                f"must begin with a module that can be imported from here or the path of a .py file, got {place!r}"
            ) from error
    if is_file and not _is_same(module, place):
        raise Failure(
            f"{place!r} cannot be imported: {name!r} is the name of another module, {module.__file__!r}; "
            "rename the file"
        )
    return module


def _importable(path: Path) -> tuple[Path, str]:
    """The folder to import a file from, and its dotted name there: that of the package it belongs to."""
    if not path.is_file():
        raise _wrong(f"must begin with a module or a .py file that is there; there is no file {str(path)!r}")
    if "." in path.stem:
        raise _wrong(f"must be a file without a dot in its name but that of .py, got {str(path)!r}; rename it")
    folder, names = path.absolute().parent, [path.stem]
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(names)


def _is_part(missing: str | None, name: str) -> bool:
    """Whether the module that is not there is the one that was asked for, rather than one that it imports."""
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _is_same(module: ModuleType, place: str) -> bool:
    return module.__file__ is not None and os.path.samefile(module.__file__, place)


def _attribute(place: str, module: ModuleType, name: str, offered: str) -> Any:
    found: Any = module
    for step in name.split("."):
        if not hasattr(found, step):
            near = nearest(step, [known for known in dir(found) if not known.startswith("_")])
            raise _wrong(f"{place!r} has no {name!r}{near or offered}")
        found = getattr(found, step)
    return found


def _model(name: str, found: Any, arguments: Mapping[str, Any], offered: str) -> Any:
    if _is_model(found):
        if arguments:
            hint = "is for classes and functions"
            raise click.BadParameter(f"{hint}, and {name!r} is a model already", param_hint="--arg")
        return found
    if not callable(found):
        raise _wrong(f"must name {KINDS}; {name!r} is {found!r:.80}{offered}")
    keywords = _completed(name, found, dict(arguments))
    with own_code(f"{name} cannot be called"):
        made = found(**keywords)
    if not _is_model(made):
        raise _wrong(f"must name {KINDS}; {name}() gave {made!r:.80}")
    return made


def _completed(name: str, found: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a class or function is called with: the given ones, and the random streams it asks for."""
    from flax import nnx

    try:
        signature = _signature(found)
    except (TypeError, ValueError):  # some that are written in C have none
        return arguments
    if "rngs" in signature.parameters:
        arguments.setdefault("rngs", nnx.Rngs(0))
    try:
        signature.bind(**arguments)
    except TypeError as error:
        known = [p for p in signature.parameters if p not in NOT_GIVEN]
        raise click.BadParameter(
            f"must fit {name}({', '.join(known)}): {error}; for example --arg {known[0] if known else 'width'}=64",
            param_hint="--arg",
        ) from None
    return arguments


def _signature(found: Any) -> inspect.Signature:
    from flax import nnx

    if not (inspect.isclass(found) and issubclass(found, nnx.Module)):
        return inspect.signature(found)
    whole = inspect.signature(found.__init__)  # which the metaclass hides
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def _is_model(value: Any) -> bool:
    from flax import linen, nnx

    pair = isinstance(value, tuple) and len(value) == 2 and all(map(callable, value))
    return pair or isinstance(value, (linen.Module, nnx.Module))


def _offered(place: str, module: ModuleType) -> str:
    """The end of a message: which models a module has."""
    names = _names(module)
    return f"; its models: {', '.join(f'{place}:{name}' for name in names[:8])}" if names else ""


def _names(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if not name.startswith("_") and _is_offered(value)]


def _described(found: Any) -> tuple[str, str]:
    """The kind of a model in words, and what its class is made with."""
    from flax import linen

    if isinstance(found, tuple):
        return "functions (init, apply)", ""
    kind = (
        "Linen module" if issubclass(found if inspect.isclass(found) else type(found), linen.Module) else "NNX module"
    )
    if not inspect.isclass(found):
        return f"{kind}, made", ""
    return f"{kind}, class", ", ".join(map(str, _parameters(found)))


def _parameters(found: Any) -> list[inspect.Parameter]:
    """The arguments that --arg may give, without their types."""
    known = _signature(found).parameters.values()
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in known]
    return [parameter for parameter in bare if parameter.name not in NOT_GIVEN]


def _is_offered(value: Any) -> bool:
    from flax import linen, nnx

    kinds = (linen.Module, nnx.Module)
    return _is_model(value) or (inspect.isclass(value) and issubclass(value, kinds) and value not in kinds)


def _wrong(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=NAME)
