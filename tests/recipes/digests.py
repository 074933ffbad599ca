"""Writes the committed digests of what every builder draws, tests/initializers/digests.json.

    python tests/recipes/digests.py

Run this only when a change of bits is meant; say so, and why, in the commit.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parents[1] / "initializers"
sys.path.insert(0, str(HERE))

from members import digests  # noqa: E402


def main():
    path = HERE / "digests.json"
    path.write_text(json.dumps(digests(), indent=1, sort_keys=True) + "\n")
    print(path)


if __name__ == "__main__":
    main()
