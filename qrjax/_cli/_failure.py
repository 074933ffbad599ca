"""Errors that end a command."""

import importlib


class Failure(Exception):
    """What went wrong and how to repair it, in words for the user; ends the command with status 1."""


def check_installed(package: str, what: str) -> None:
    """Nothing, if a package for checkpoints is there, which `what` need.

    Raises:
      Failure: if it is not.
    """
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise Failure(
            f"{what} need the package {package}, which is not installed: pip install 'qrjax[checkpoints]'"
        ) from error
