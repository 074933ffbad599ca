"""A record with the code of its model, for builders that are not qrjax's: --model and what it is called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from qrjax._cli._arguments import OneOf
from qrjax._cli._causes import own_code, own_errors
from qrjax._cli._failure import Failure
from qrjax._cli._inputs import DTYPES, Setting, Shape, arrays, written
from qrjax._cli._models import NAME, maker_at, model_at
from qrjax._cli._sections import section

if TYPE_CHECKING:
    from qrjax import Record

OPTIONS = {"module": "--model", "sample_input": "--input", "key": "--model"}
# By the names of the command's parameters.
BELONGING = {
    "inputs": "--input", "dtypes": "--dtype", "arguments": "--arg", "keywords": "--kwarg", "method": "--method",
    "rngs": "--rngs",
}  # fmt: skip


model = section("The model and what it is called with")


def calling(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a model is made and called with."""
    for option in reversed((
        model(
            "--input", "inputs", metavar="SHAPE", type=Shape(), multiple=True,
            help="The shape of an array that the model is called with, its dtype after a colon: 1,128:int32. Repeat it "
            "for more arrays; NAME=SHAPE passes one by name.",
        ),
        model(
            "--dtype", "dtypes", metavar="DTYPE", type=OneOf(DTYPES), multiple=True,
            help="The dtype of inputs that name none: once for all, or once for each.  [default: float32]",
        ),
        model(
            "--arg", "arguments", metavar="NAME=VALUE", type=Setting(), multiple=True,
            help="An argument for the class or function that makes the model, as a Python literal: width=64.",
        ),
        model(
            "--kwarg", "keywords", metavar="NAME=VALUE", type=Setting(), multiple=True,
            help="An argument for the model's call, as a Python literal: train=False.",
        ),
        model("--method", metavar="NAME", help="The method to call instead of __call__."),
        model(
            "--rngs", metavar="NAME", multiple=True, help="A random stream that a Linen model needs: dropout."
        ),
    )):  # fmt: skip
        command = option(command)
    return command


def with_code(record: Record, target: str | None, call: dict[str, Any]) -> Record:
    """The record as it is, or with the model that `target` names.

    Without inputs the target is a function of a key, or an NNX class, which is given nnx.Rngs(key).
    """
    if target is None:
        given = [option for name, option in BELONGING.items() if call[name]]
        if given:
            raise click.UsageError(f"{given[0]} says how --model is made and called; give {NAME} by --model too")
        _check_own(record)
        return record
    arguments, keywords = dict(call["arguments"]), dict(call["keywords"])
    if not call["inputs"]:
        maker = maker_at(target, arguments)
        with own_code(f"{target} cannot be called with a key", _remedy), own_errors(OPTIONS):
            return record.with_model(maker)
    positional, named = arrays(call["inputs"], call["dtypes"])
    model = model_at(target, arguments)
    options = {"method": call["method"], "rngs": call["rngs"] or None}
    shown = ", ".join(map(written, positional))
    with own_code(f"{target} cannot be called with {shown}", _remedy), own_errors(OPTIONS):
        return record.with_model(model, positional[0], *positional[1:], **{**named, **keywords, **options})


def _remedy(error: BaseException) -> str:
    text = str(error)
    return "; give arrays by --input, one for each" if isinstance(error, TypeError) and "argument" in text else ""


def _check_own(record: Record) -> None:
    """Nothing, if the record needs no code."""
    from qrjax._records._origins import needs_model

    foreign = [entry.leaf.path for entry in record.entries if entry.leaf.trained and needs_model(entry.origin)]
    if foreign:
        raise Failure(
            f"the initial values of {foreign[0]!r} come from a builder of the model's own ({len(foreign)} of "
            f"{len(record)} variables), so they need its code: --model {NAME} --input 1,28,28,1"
        )
