"""What an installed qrjax is to other programs than Python."""

import subprocess
import sys

import pytest

FIND = """
import sys
from mypy.build import default_data_dir
from mypy.modulefinder import FindModuleCache, compute_search_paths
from mypy.options import Options

options = Options()
options.python_executable = sys.executable
paths = compute_search_paths([], options, default_data_dir())
print(FindModuleCache(paths, None, options).find_module("qrjax"))
"""


@pytest.mark.slow  # needs qrjax installed, as .ci/run does it: `pip install -e .`
def test_type_checkers_see_it_from_outside_of_its_checkout(tmp_path):
    done = subprocess.run([sys.executable, "-c", FIND], capture_output=True, text=True, cwd=tmp_path, env={})
    assert done.stdout.strip().replace("\\", "/").endswith("qrjax/__init__.py"), done.stdout + done.stderr
