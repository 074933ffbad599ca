"""Strict JAX for every test: no implicit promotion of dtypes or ranks. Files of tests side by side."""

import collections
import pathlib

import jax
import pytest

HERE = pathlib.Path(__file__).parent
# Files of long tests, the longest first, which side by side are begun first; of the others, those of most tests.
LONG = (
    "scale/test_processes.py", "test_examples.py", "scale/test_sharding.py", "autoinit/test_autoinit.py",
    "experiments/test_experiment_runs.py", "scale/test_partitioned_models.py", "scale/test_placements.py",
    "test_house.py", "records/test_record_autoinit.py", "blocks/test_block_linen.py", "tracking/test_changes.py",
    "tracking/test_changes_devices.py", "cli/test_cli_demo.py", "cli/test_cli_track.py",
    "initializers/test_layouts.py", "scale/test_tpu_export.py", "cli/test_cli_spectrum.py",
    "records/test_record_elsewhere.py", "autoinit/test_zoo.py", "autoinit/test_own_builders.py", "test_notebooks.py",
)  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests go to one process, which then compiles once what they share."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # they come in the order wanted
    return LoadFileScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Side by side, the longest first, so that in the end no process waits long for another.

    Files compiled with less effort come together: between them and others nothing that was compiled is kept.
    """
    if not hasattr(config, "workerinput"):
        return
    counts = collections.Counter(item.path for item in items)
    ranks = {HERE / name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda i: (_is_quick(i.path), ranks.get(i.path, len(LONG)), -counts[i.path], i.path))


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


def _is_quick(path):
    return path.parent.name in QUICKLY


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
    """Compiling is most of the work; what one way of it has made is not taken for the other's."""
    quickly = _is_quick(request.path)
    if jax.config.values["jax_disable_most_optimizations"] != quickly:
        jax.config.update("jax_disable_most_optimizations", quickly)
        jax.clear_caches()
