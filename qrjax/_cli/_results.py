"""What is wrong with a file of results and yet no error, said in a line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from qrjax._files._journal import DamagedLineWarning


@contextmanager
def damage_told(command: str) -> Iterator[None]:
    """Each damaged line of a file of results, as a line on stderr; other warnings go where they went."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DamagedLineWarning)
        usual = warnings.showwarning

        def told(message: Any, category: Any, *place: Any, **more: Any) -> None:
            if issubclass(category, DamagedLineWarning):
                click.echo(f"{command}: {message}", err=True)
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = told
        yield
