"""Plugin of pytest for processes that run tests: strict JAX, compiled with as much effort as a file of tests needs."""

import effort
import jax
import jaxlib
import kept_programs
import pytest

jax.config.update("jax_traceback_in_locations_limit", 0)  # where a program came from is read by nobody, and costs
jax.config.update("jax_disable_most_optimizations", True)  # for what is made while tests are collected

# Files of tests that look at the bits of optimized code, its speed or its memory; all others are compiled quickly.
OPTIMIZED = {
    "test_bits.py", "test_compilation.py", "test_flax.py", "test_gpu.py", "test_laws.py",
    "test_narrow_parts.py", "test_octets.py", "test_operations.py",
}  # fmt: skip


def pytest_configure(config):
    effort.share_contexts()
    effort.emit_loops_sooner(_kept(config))


def _kept(config):
    """The compiled programs of former runs, where pytest keeps anything.

    jaxlib 0.10.0 takes what it reads back for another machine's, and logs that as an error.
    """
    if not hasattr(config, "cache") or jaxlib.version.__version_info__ < (0, 10, 2):
        return None
    kept = kept_programs.Programs(config.cache.mkdir("programs"))
    if getattr(config, "workerinput", {}).get("workerid", "gw0") == "gw0":
        kept.forget()
    return kept


@pytest.fixture(autouse=True, scope="session")
def strict():
    """No implicit promotion of dtypes or ranks."""
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def optimized():
    """For a test of much work in a file that is compiled quickly."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def quickly(monkeypatch):
    """For a test of other processes, most of whose work is compiling."""
    for setting in effort.of_another_process().items():
        monkeypatch.setenv(*setting)


def is_quick(path):
    return path.name not in OPTIMIZED


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
    """Compiling is most of the work; what one way of it has made is not taken for the other's."""
    quickly = is_quick(request.path)
    if jax.config.values["jax_disable_most_optimizations"] != quickly:
        jax.config.update("jax_disable_most_optimizations", quickly)
        jax.clear_caches()
