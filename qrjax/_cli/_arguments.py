"""Types of command-line arguments; argparse puts the argument's name before their messages."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from qrjax._cli._files import resolved_for_writing


def whole_number(least: int, most: int, example: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {least} to {most}, got {text!r}; for example {example}"
            )
        return value

    return parse


def output_path(*suffixes: str) -> Callable[[str], Path]:
    """Paths that end in one of `suffixes` and can be written, checked before any work is done."""

    listed = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"

    def parse(text: str) -> Path:
        if Path(text).suffix.lower() not in suffixes:
            example = f"{Path(text).stem or 'picture'}{suffixes[0]}"
            raise argparse.ArgumentTypeError(f"must end in {listed}, got {text!r}; for example {example}")
        try:
            return resolved_for_writing(text)
        except OSError as error:
            raise argparse.ArgumentTypeError(
                f"cannot write {text!r}: {error.strerror}; name a file in an existing folder you may write to"
            ) from None

    return parse
