"""Errors that end a command."""

from qrjax._terminal._packages import package as load


class Failure(Exception):
    """What went wrong and how to repair it, in words for the user; ends the command with status 1."""


def check_installed(package: str, what: str) -> None:
    """Nothing, if a package for checkpoints is there, which `what` need.

    Raises:
      Failure: if it is not.
    """
    try:
        load(package, f"{what} need the package {package}", "checkpoints")
    except ModuleNotFoundError:
        raise  # of something else
    except ImportError as error:
        raise Failure(str(error)) from error
