"""Help whose options stand in sections, as click has one list of them all.

By click's own means, as rich-click would load rich for every help and draw frames around what one wants to copy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

OTHERS = "Other options"


class Option(click.Option):
    """An option and the heading that it stands under."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class Sectioned(click.Command):
    """A command whose options stand under their headings, in the order in which these come."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in (parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)):
            record = option.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(option, "section", OTHERS), []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def section(name: str) -> Callable[..., Callable[[Any], Any]]:
    """What `click.option` is, for the options under one heading."""
    return functools.partial(click.option, cls=Option, section=name)
