"""Which members of tables are run, and files of tests side by side. JAX's settings are in `jax_settings.py`."""

import collections
import fnmatch
import gc
import os
import pathlib

import pytest

# Before NumPy is there: of small matrices the threads of BLAS make more work, and wait for each other at full speed.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

gc.disable()  # what is imported and collected stays, and to look through it takes a sixth of that time

HERE = pathlib.Path(__file__).parent
# Files of long tests, which side by side are begun first, by what the slow ones take and then by what the others do; of
# all other files, those of most tests.
LONG = (
    "autoinit/test_predicted_zoo.py", "wild/test_wild.py", "test_notebooks.py", "autoinit/test_gradients_of_zoo.py",
    "autoinit/test_zoo.py", "scale/test_sharding.py", "scale/test_processes.py", "scale/test_partitioned_models.py",
    "scale/test_sweeps.py", "scale/test_gpu_compiler.py", "test_examples.py", "cli/test_cli_demo.py",
    "autoinit/test_derivatives.py",
    "tracking/test_changes_devices.py", "tracking/test_changes.py", "scale/test_placements.py",
    "autoinit/test_measured_gradients.py", "tracking/test_mask.py", "autoinit/test_autoinit.py", "test_book.py",
    "tracking/test_structures.py", "autoinit/test_transformed_weights.py", "blocks/test_block_linen.py",
    "tracking/test_keep_pruned.py", "tracking/test_masks_in_programs.py", "scale/test_tpu_export.py",
    "records/test_record_properties.py", "experiments/test_experiment_runs.py", "initializers/test_layouts.py",
    "initializers/test_laws.py", "initializers/test_bits.py", "initializers/test_compilation.py",
)  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--whole-tables", action="store_true", help="the members of tables, too, that are else left out")


def pytest_configure(config):
    few = "few(*ids): of a table of members only these by default, by fnmatch's patterns; the others are slow"
    some = "some(k): of a table every k-th member by default, from the first on; the others are slow"
    turns = "turns(k): of tables those of the default run and every k-th (k odd); others only with --whole-tables"
    whole = "whole_tables(*ids): these of a table, or this one, are like others of it: only with --whole-tables"
    config.addinivalue_line("markers", few)
    config.addinivalue_line("markers", some)
    config.addinivalue_line("markers", turns)
    config.addinivalue_line("markers", whole)
    if hasattr(config, "cache"):
        config.cache.mkdir("programs")  # before there are several processes that would
    if _runs_tests(config):
        config.pluginmanager.import_plugin("jax_settings")


def _runs_tests(config):
    """Not where a process deals tests to others, which would wait for it to load JAX."""
    return hasattr(config, "workerinput") or config.option.collectonly or config.getoption("dist", "no") == "no"


def pytest_collection_finish():
    """Python need not look through all that was imported again and again while programs are traced."""
    gc.set_threshold(50_000, 20, 20)
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests go to one process, which then compiles once what they share."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # they come in the order wanted
    return LoadFileScheduling(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config, items):
    _leave_a_few(config, items)
    _leave_some(items)
    _take_turns(config, items)
    result = yield
    _longest_first(config, items)
    return result


def _leave_a_few(config, items):
    """Marks as slow what the mark `few` does not name."""
    few = {id(item) for item in _named(config, items, "few")}
    for item in items:
        if item.get_closest_marker("few") is not None and id(item) not in few:
            item.add_marker(pytest.mark.slow)


def _named(config, items, marked):
    """Those whose member the mark of this name names; a name without a member would silently be one member less."""
    idle, result = {}, []
    for item in items:
        if (mark := item.get_closest_marker(marked)) is None:
            continue
        found = {name for name in mark.args if fnmatch.fnmatchcase(item.callspec.id, name)}
        if found or not mark.args:
            result.append(item)
        idle.setdefault((item.path, item.function.__qualname__), set(mark.args)).difference_update(found)
    wrong = {f"{path.name}::{name}": sorted(rest) for (path, name), rest in idle.items() if rest}
    if wrong and not any("::" in arg for arg in config.args):
        raise pytest.UsageError(f"the mark `{marked}` names no member of: {wrong}")
    return result


def _leave_some(items):
    """Marks as slow all but every k-th of a table's members, of those that are not slow already.

    For tables of members of which none is a kind of its own; names of those that are stand in a `few`.
    """
    seen = collections.Counter()
    for item in items:
        mark, name = item.get_closest_marker("some"), (item.path, item.cls, item.function.__qualname__)
        if mark is None or item.get_closest_marker("slow") is not None:
            continue
        if seen[name] % mark.args[0]:
            item.add_marker(pytest.mark.slow)
        seen[name] += 1


def _take_turns(config, items):
    """Leaves out members that show what others show, and combinations of members each of which is combined with others.

    Whose turn it is is told by the sum of the places in its tables, each as often as the table has arguments: take a k
    that does not divide their number, or some never have their turn.
    """
    spare = _named(config, items, "whole_tables")
    for item in spare:
        item.add_marker(pytest.mark.slow)
    if config.getoption("whole_tables"):
        return
    turns = [(item, mark.args[0]) for item in items if (mark := item.get_closest_marker("turns"))]
    out = spare + [item for item, every in turns if not _has_its_turn(item, every)]
    config.hook.pytest_deselected(items=out)
    left = {id(item) for item in out}
    items[:] = [item for item in items if id(item) not in left]


def _has_its_turn(item, every):
    by_default = item.get_closest_marker("slow") is None
    return by_default or sum(item.callspec.indices.values()) % every == 0


def _longest_first(config, items):
    """Side by side, the longest first, so that in the end no process waits long for another.

    But those first that are compiled with all effort: between them and others JAX forgets what it has compiled, which
    takes seconds where that is much.
    """
    if not hasattr(config, "workerinput"):
        return
    from jax_settings import is_quick  # which loads JAX

    counts = collections.Counter(item.path for item in items)
    ranks = {HERE / name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda i: (is_quick(i.path), ranks.get(i.path, len(LONG)), -counts[i.path], i.path))
