"""What two sources have to do with each other."""

import random

from qrjax._signals._signal import Source, relation

SHARES = (0.1, 0.2, 0.3, 0.15, 0.25, 0.35, 0.05)


def test_a_relation_does_not_depend_on_where_objects_lie():
    found, kept = set(), []
    for trial in range(50):
        elders = [Source() for _ in range(40)]
        kept.append(elders)
        random.Random(trial).shuffle(elders)
        first, second = (Source(kin=dict(zip(elders, shares, strict=False))) for shares in (SHARES, SHARES[::-1]))
        found.add(relation(first, second))
    assert len(found) == 1
