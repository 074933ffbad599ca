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


# Folders whose tests look at structure and values, not at the bits of optimized code, its speed or its memory.
QUICKLY = {"autoinit", "blocks", "cli", "experiments", "plot", "records", "sweep", "tracking"}


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
    """Compiling is most of the work; what one way of it has made is not taken for the other's."""
    quickly = request.path.parent.name in QUICKLY
    if jax.config.values["jax_disable_most_optimizations"] != quickly:
        jax.config.update("jax_disable_most_optimizations", quickly)
        jax.clear_caches()
