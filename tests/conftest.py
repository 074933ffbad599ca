"""Strict JAX for every test: no implicit promotion of dtypes or ranks. Files of tests side by side."""

import jax
import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests go to one process, which then compiles once what they share."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="module")
def unoptimized():
    """Programs compiled with a third less effort, for files that look at neither bits, memory nor speed."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # no other file is given these programs


@pytest.fixture(autouse=True, scope="session")
def strict():
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
