"""Environments of commands that tests run."""

import os
import signal

import effort
import pytest


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The environment of the commands; what one has compiled the next need not."""
    compiled = str(tmp_path_factory.mktemp("compiled"))
    settings = {"JAX_COMPILATION_CACHE_DIR": compiled, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    settings |= effort.of_another_process()
    # jaxlib 0.10.0 takes what it reads back for another machine's, and logs that as an error.
    settings["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return os.environ | settings | {"TERM": "xterm-256color", "COLUMNS": "100"}


@pytest.fixture
def foreground():
    """Children that heed SIGINT, even where these tests run in the background of a script and inherit its disregard."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
