# ruff: noqa: NPY002 - the global generator is what this is about
"""The state inside of a block depends on the seed and its name; the state outside, on nothing that happens inside."""

import asyncio
import hashlib
import random
import struct
import sys
import threading
import types
from random import random as captured

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qrjax
from qrjax._blocks._dispatch import Replacement
from qrjax._blocks._frames import STAGE

pytestmark = pytest.mark.usefixtures("seeded")

captured_numpy = np.random.mtrand._rand


def draws():
    """Something from every generator, by several functions each."""
    numbers = [3, 1, 4, 1, 5, 9]
    random.shuffle(numbers)
    return (
        [random.random(), random.gauss(0, 1), random.randrange(1000), *numbers],
        [np.random.rand(), *np.random.permutation(5), np.random.sample(), np.random.standard_normal()],
        jax.random.key_data(qrjax.next_key()).tolist(),
    )


def state():
    key, values, *rest = np.random.get_state()
    return random.getstate(), (key, values.tolist(), *rest)


def inside(name):
    with qrjax.block(name):
        return draws()


def test_the_state_depends_on_the_seed_and_the_name_alone():
    first = inside("a")
    draws()
    assert inside("a") == first
    with qrjax.block("b"):
        draws()
        assert inside("a") == first
    found = {}
    for seed in (42, 43, -1, 2**200):
        qrjax.set_seed(seed)
        found |= {(seed, name): inside(name) for name in ("a", "b", 1, "1", "")} | {(seed, None): draws()}
    assert found[42, "a"] == first
    for kind in range(3):
        assert len({tuple(values[kind]) for values in found.values()}) == len(found)


@pytest.mark.parametrize(
    ("name", "text"), [("a", b"3:str1:a"), (64, b"3:int2:64"), ("", b"3:str0:"), ("\u00e9:", b"3:str3:\xc3\xa9:")]
)
def test_seeds_are_digests_of_the_seed_and_the_name(name, text, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", FakeTorch())
    digest = {kind: hashlib.sha256(kind + b"2:42" + text).digest() for kind in (b"6:python", b"5:numpy", b"5:torch")}
    with qrjax.block(name):
        assert random.random() == random.Random(int.from_bytes(digest[b"6:python"], "big")).random()
        assert np.random.rand() == np.random.RandomState(struct.unpack("<8I", digest[b"5:numpy"])).rand()
        assert sys.modules["torch"].get_rng_state() == int.from_bytes(digest[b"5:torch"], "big") >> 193


def test_the_outer_state_is_as_it_was():
    expected = [draws(), draws()]
    qrjax.set_seed(42)
    found = [draws()]
    inside("a")
    with qrjax.block("b"):
        inside("a")
    found.append(draws())
    assert found == expected


def test_with_the_exact_state_of_gauss_too():
    random.gauss(0, 1)
    np.random.standard_normal()  # of two that are drawn at once, the other is kept
    before = state()
    inside("a")
    assert state() == before


def test_on_an_exception_too():
    before = state()
    with pytest.raises(KeyError, match="x"), qrjax.block("a"), qrjax.block("b"):  # noqa: PT012
        draws()
        raise KeyError("x")
    assert state() == before
    with pytest.raises(KeyboardInterrupt), qrjax.block("a"):
        raise KeyboardInterrupt
    assert state() == before


def test_an_interrupt_while_entering_leaves_nothing_half_done(monkeypatch):
    before = state()

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np.random, "set_bit_generator", interrupted)
        np.random.mtrand.set_bit_generator(np.random.PCG64(0))  # so that entering must call it
        with pytest.raises(KeyboardInterrupt), qrjax.block("a", restore=False):
            pytest.fail("entered")
        assert random.getstate() == before[0]
        assert not STAGE.frames
        assert random.random is captured


def test_without_restore_the_outer_state_runs_on():
    with qrjax.block("a"):
        expected = [draws(), draws()]
    with qrjax.block("a", restore=False):
        found = [draws()]
    assert [*found, draws()] == expected
    # Into the block around, not into what is outside of that.
    before = state()
    with qrjax.block("b"):
        with qrjax.block("a", restore=False):
            found = [draws()]
        assert [*found, draws()] == expected
    assert state() == before


def test_references_made_before_are_in_the_block_of_the_first_context():
    with qrjax.block("a"):
        expected = [random.random(), np.random.rand()]
    with qrjax.block("a"):
        assert [captured(), captured_numpy.rand()] == expected
    with qrjax.block("b"), qrjax.block("a"):
        assert [captured(), captured_numpy.rand()] == expected


def test_the_functions_are_the_original_ones_outside():
    before = {name: vars(module)[name] for module in (random, np.random) for name in vars(module)}
    with qrjax.block("a"):
        assert random.random is not captured
        kept = random.random  # as an import inside of the block would
        assert (kept.__name__, kept.__module__) == ("random", "random")
    assert {name: vars(module)[name] for module in (random, np.random) for name in vars(module)} == before
    random.seed(1)
    values = [kept(), random.random()]
    random.seed(1)
    assert values == [random.random(), random.random()]
    assert all(isinstance(r, Replacement) for r in STAGE.replaced)
    names = {(r.module.__name__, r.name) for r in STAGE.replaced}
    assert {("random", "getrandbits"), ("numpy.random", "seed"), ("numpy.random.mtrand", "normal")} <= names


def test_replacements_by_others_stay(monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 0.5)
    with qrjax.block("a"):
        assert random.random() == 0.5
        monkeypatch.setattr(random, "uniform", lambda low, _: low)
    assert random.random() == random.uniform(0.5, 1) == 0.5


def test_seeding_inside_of_a_block_stays_inside():
    before = state()
    with qrjax.block("a"):
        random.seed(3)
        np.random.seed(3)
        values = random.random(), np.random.rand()
    assert state() == before
    assert values == (random.Random(3).random(), np.random.RandomState(3).rand())


def test_other_bit_generators_of_numpy_come_back():
    own = np.random.PCG64(5)
    with qrjax.block("a"):
        expected = np.random.rand()
    np.random.set_bit_generator(own)
    values = np.random.RandomState(np.random.PCG64(5)).rand(3)
    found = [np.random.rand()]
    with qrjax.block("a"):
        assert np.random.rand() == expected
    assert np.random.get_bit_generator() is own
    assert [*found, *np.random.rand(2)] == values.tolist()
    with qrjax.block("a", restore=False):
        pass
    assert np.random.rand() == expected
    qrjax.set_seed(42)


def test_a_block_may_be_entered_again_and_within_itself():
    expected = inside("a")
    block = qrjax.block("a")
    with block:
        first = draws()
        with block:
            assert draws() == expected
        second = draws()
    assert first == expected != second
    with block:
        assert draws() == expected


def test_functions_and_coroutine_functions():
    expected = inside("a")

    @qrjax.block("a")
    def function(count, *, more=0):
        """Text."""
        return [draws() for _ in range(count + more)]

    @qrjax.block("a")
    async def coroutine():
        await asyncio.sleep(0)
        return draws()

    assert function(1, more=1)[0] == function(1)[0] == expected
    assert (function.__name__, function.__doc__) == ("function", "Text.")
    assert asyncio.run(coroutine()) == expected


def test_recursion_enters_anew():
    @qrjax.block("a")
    def function(depth):
        value = random.random()
        return [value, *function(depth - 1), random.random()] if depth else [value]

    found = function(2)
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] != found[0]


def test_threads_are_apart():
    """Four threads in blocks at once, one of them outside, all of them drawing in turn."""
    names = ["a", "b", "a", None]
    expected = [inside("a"), inside("b"), inside("a")]
    qrjax.set_seed(42)
    outside = [draws(), draws()]
    qrjax.set_seed(42)
    barrier, found = threading.Barrier(4), {}

    def step():
        barrier.wait()
        return draws()

    def run(index, name):
        if name is None:
            barrier.wait()
            found[index] = [step(), step()]
            barrier.wait()
        else:
            with qrjax.block(name):
                barrier.wait()  # all are inside
                first = step()
                second = step()
                barrier.wait()
            found[index] = [first, second]

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i][0] for i in range(3)] == expected
    assert found[3] == outside
    assert found[0] == found[2]
    # The process's generators have moved by the draws of the thread outside, and by nothing else.
    after = state()
    qrjax.set_seed(42)
    draws(), draws()
    assert state() == after


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_threads_that_leave_in_any_order(order):
    """What the first leaves, the second goes on with; the outside moves by its own draws alone."""
    with qrjax.block("a"):
        expected = [draws(), draws(), draws()]
    qrjax.set_seed(42)
    outer = [draws(), draws(), draws()]
    qrjax.set_seed(42)
    go = [[threading.Event() for _ in range(3)] for _ in range(2)]
    done = [[threading.Event() for _ in range(3)] for _ in range(2)]
    found = [[], []]

    def run(me):
        with qrjax.block("a"):
            for i in range(2):
                go[me][i].wait()
                found[me].append(draws())
                done[me][i].set()
            go[me][2].wait()
        done[me][2].set()

    def step(me, i):
        go[me][i].set()
        assert done[me][i].wait(10)

    threads = [threading.Thread(target=run, args=(me,)) for me in range(2)]
    for thread, me in zip(threads, range(2), strict=True):
        thread.start()
        step(me, 0)
    values = [draws()]
    step(order[0], 1)
    step(order[0], 2)  # leaves, while the other is inside
    values.append(draws())
    step(order[1], 1)
    step(order[1], 2)
    values.append(draws())
    for thread in threads:
        thread.join()
    assert values == outer
    assert found == [expected[:2]] * 2


def test_tasks_are_apart():
    with qrjax.block("a"):
        expected = [draws(), draws()]
    qrjax.set_seed(42)
    outer = [draws() for _ in range(4)]
    qrjax.set_seed(42)

    async def inner(name, steps):
        with qrjax.block(name):
            values = []
            for _ in range(steps):
                values.append(draws())
                await asyncio.sleep(0)
        return values

    async def outside():
        values = []
        for _ in range(4):
            values.append(draws())
            await asyncio.sleep(0)
        return values

    async def main():
        return await asyncio.gather(inner("a", 2), inner("a", 5), outside(), inner("b", 3), inner("a", 1))

    one, two, free, _, three = asyncio.run(main())
    assert one == two[:2] == expected
    assert three == expected[:1]
    assert free == outer
    assert random.random is captured


def test_a_task_inherits_the_block_it_was_created_in_until_that_ends():
    with qrjax.block("a"):
        expected = [draws(), draws(), draws()]
    qrjax.set_seed(42)
    outer = [draws(), draws()]
    qrjax.set_seed(42)

    async def child(left):
        first = draws()
        await left.wait()
        return [first, draws()]

    async def main():
        left = asyncio.Event()
        with qrjax.block("a"):
            values = [draws()]
            task = asyncio.create_task(child(left))
            await asyncio.sleep(0)
            values.append(draws())
        left.set()
        return values, await task

    values, (first, after) = asyncio.run(main())
    assert [values[0], first, values[1]] == expected
    assert [after, draws()] == outer


def test_a_task_nested_in_its_parents_block_that_ends_before_it():
    with qrjax.block("b"):
        expected = [draws(), draws()]
    before = state()

    async def child(left):
        with qrjax.block("b"):
            first = draws()
            await left.wait()
            return [first, draws()]

    async def main():
        left = asyncio.Event()
        with qrjax.block("a"):
            one = draws()
            task = asyncio.create_task(child(left))
            await asyncio.sleep(0)
            two = draws()
        assert state() == before
        left.set()
        return [one, two], await task

    values, found = asyncio.run(main())
    assert found == expected
    assert state() == before
    with qrjax.block("a"):
        assert values == [draws(), draws()]


def test_generators_that_are_closed_elsewhere():
    before = state()

    def steps():
        with qrjax.block("a"):
            yield draws()
            yield draws()

    generator = steps()
    next(generator)
    with qrjax.block("b"):
        first = draws()
        generator.close()  # leaves "a", though "b" is the innermost
        second = draws()
    assert state() == before
    with qrjax.block("b"):
        assert [draws(), draws()] == [first, second]
    # Left by another thread than it was entered in.
    generator = steps()
    next(generator)
    thread = threading.Thread(target=generator.close)
    thread.start()
    thread.join()
    assert not STAGE.frames
    assert state() == before


class FakeTorch(types.ModuleType):
    """What qrjax uses of Torch; its generator counts on from its seed."""

    def __init__(self, cuda=False):
        super().__init__("torch")
        self.state, self.gpus = 0, [0, 0] if cuda else []
        self.cuda = types.SimpleNamespace(
            is_initialized=lambda: cuda, get_rng_state_all=lambda: list(self.gpus), set_rng_state_all=self._set_gpus
        )

    def _set_gpus(self, states):
        self.gpus = list(states)

    def get_rng_state(self):
        return self.state

    def set_rng_state(self, state):
        self.state = state

    def manual_seed(self, seed):
        assert 0 <= seed < 2**63
        self.state, self.gpus = seed, [seed for _ in self.gpus]

    def draw(self):
        self.state, self.gpus = self.state + 1, [gpu + 1 for gpu in self.gpus]
        return self.state, *self.gpus


@pytest.mark.parametrize("cuda", [False, True])
def test_torch_if_it_is_imported(monkeypatch, cuda):
    torch = FakeTorch(cuda)
    monkeypatch.setitem(sys.modules, "torch", torch)
    qrjax.set_seed(42)
    outer = torch.draw()
    with qrjax.block("a"):
        first = torch.draw()
        with qrjax.block("b"):
            other = torch.draw()
        second = torch.draw()
    with qrjax.block("a"):
        assert torch.draw() == first
    assert second[0] == first[0] + 1
    assert torch.draw()[0] == outer[0] + 1
    assert len({outer[0], first[0], other[0]}) == 3
    with qrjax.block("a", restore=False):
        torch.draw()
    assert torch.draw() == second
    if cuda:
        qrjax.set_seed(42)
        with pytest.raises(KeyError, match="x"), qrjax.block("a"):
            raise KeyError("x")
        assert torch.draw() == outer


def test_torch_that_is_imported_inside_of_a_block_or_half(monkeypatch):
    torch = FakeTorch()
    with qrjax.block("a"):
        monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    inside("a")


def test_keys_of_the_stream():
    def words(*keys):
        return [jax.random.key_data(key).tolist() for key in keys]

    root = jax.random.key(0)
    assert words(qrjax.next_key(), qrjax.next_key()) == words(*(qrjax.block_key(root, "42", i) for i in range(2)))
    with qrjax.block("a"):
        assert words(qrjax.next_key(), qrjax.next_key()) == words(
            *(qrjax.block_key(root, "42", "a", i) for i in range(2))
        )
    assert words(qrjax.next_key()) == words(qrjax.block_key(root, "42", 2))


TREES = st.recursive(
    st.just(()),
    lambda inner: st.lists(st.tuples(st.text(max_size=4) | st.integers(0, 9), inner), max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(TREES, st.integers())
def test_any_nesting(tree, seed):
    """In each block two draws, one before and one after what is nested in it: they are those of the block alone."""
    qrjax.set_seed(seed)

    def pair():
        return random.random(), np.random.rand()

    def alone(name):
        with qrjax.block(name):
            return pair(), pair()

    def run(tree):
        for name, inner in tree:
            with qrjax.block(name):
                first = pair()
                run(inner)
                found.append((name, (first, pair())))

    found = []
    outer = pair()
    before = state()
    run(tree)
    assert state() == before
    for name, values in found:
        assert values == alone(name)
        assert values[0] != outer
    assert state() == before
