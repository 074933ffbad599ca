"""Comparisons in pairs, against enumeration, hand-made tables and known coverage."""

import itertools

import numpy as np
import pytest
from scipy import stats

from qrjax._experiments._statistics import IncompleteWarning, epochs_to, holm, interval, sign_flips
from qrjax.experiments import compare

SETTINGS = {"dataset": "digits", "model": "mlp2", "optimizer": "adam", "initializer": "he_normal"}


def records(source, accuracies, seeds=None, scheme=None, **settings):
    return [
        {
            "settings": {**SETTINGS, **settings, "source": source},
            "seed": seed,
            "scheme": scheme,
            "accuracy": list(np.atleast_1d(accuracy)),
        }
        for seed, accuracy in zip(seeds or range(len(accuracies)), accuracies, strict=True)
    ]


def test_holm_by_hand():
    # Four tests, sorted 0.01, 0.02, 0.03, 0.2: times 4, 3, 2, 1; never falling.
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]


@pytest.mark.parametrize("count", [1, 2, 8, 11])
def test_sign_flips_are_those_of_enumeration(count):
    gaps = np.random.default_rng(count).normal(0.5, 1, count)
    means = [abs(np.mean(gaps * signs)) for signs in itertools.product((1, -1), repeat=count)]
    exact = np.mean([mean >= abs(gaps.mean()) * (1 - 1e-9) for mean in means])
    assert sign_flips(gaps) == pytest.approx(exact, abs=1e-12)


def test_sign_flips_are_scipys():
    gaps = np.random.default_rng(5).normal(0.5, 1, 9)
    theirs = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True)
    assert sign_flips(gaps) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_sign_flips_of_many_pairs_are_drawn():
    gaps = np.random.default_rng(7).normal(0.4, 1, 30)
    # By the normal law, which thirty pairs nearly follow.
    expected = 2 * stats.norm.sf(abs(gaps.sum()) / np.sqrt((gaps**2).sum()))
    assert sign_flips(gaps) == pytest.approx(expected, rel=0.15)
    assert sign_flips(np.full(30, 0.1)) < 1e-5  # small enough for thousands of comparisons


def test_ties_do_not_tell():
    assert sign_flips(np.array([0.0] * 19 + [1.0])) == 1.0


def test_sign_flips_of_nothing():
    assert sign_flips(np.zeros(20)) == 1.0


def test_interval_covers_the_mean():
    rng = np.random.default_rng(1)
    trials = [interval(rng.exponential(1, 25) - 1) for _ in range(120)]
    covered = np.mean([low <= 0 <= high for low, high in trials])
    # 95 % claimed; five standard errors, and a skewed law of 25 values costs a few points.
    assert covered > 0.95 - 5 * np.sqrt(0.95 * 0.05 / 120) - 0.03
    assert covered < 1


@pytest.mark.parametrize("gaps", [np.full(20, 0.25), np.zeros(5), np.array([0.0] * 19 + [1.0])])
def test_interval_of_equal_pairs(gaps):
    low, high = interval(gaps)
    assert low <= gaps.mean() <= high
    assert np.isfinite([low, high]).all()


def test_epochs_to_an_accuracy():
    table = np.array([[0.1, 0.5, 0.9], [0.95, 0.2, 0.2], [0.1, 0.2, 0.3]])
    mean, reached = epochs_to(table, 0.9)
    assert mean == pytest.approx((3 + 1 + 4) / 3)
    assert reached == pytest.approx(2 / 3)


def test_pairs_are_of_equal_seeds():
    luck = np.random.default_rng(0).normal(0, 0.05, 30)
    base = records("random", 0.8 + luck)
    better = records("hash", 0.81 + luck[::-1], seeds=list(range(30))[::-1])
    found = compare([*base, *better, *records("sobol", 0.8 + luck[:20])])
    by_source = {comparison.source: comparison for comparison in found}
    assert by_source["hash"].difference == pytest.approx(0.01)
    assert by_source["hash"].low == pytest.approx(by_source["hash"].high)  # the luck of a seed cancels
    assert (by_source["hash"].wins, by_source["hash"].verdict) == (1, "better")
    assert (by_source["sobol"].wins, by_source["sobol"].seeds, by_source["sobol"].p_value) == (0.5, 20, 1)
    assert by_source["sobol"].verdict == "no difference seen"


def test_worse_is_said_too():
    rng = np.random.default_rng(2)
    found = compare(
        [*records("random", 0.9 + 0.01 * rng.normal(size=20)), *records("sequence", 0.5 + 0.01 * rng.normal(size=20))]
    )
    assert found[0].verdict == "worse"
    assert found[0].high < 0


def test_many_comparisons_are_corrected_for():
    rng = np.random.default_rng(5)
    many = [
        record
        for model in map(str, range(30))
        for source in ("random", "hash")
        for record in records(source, 0.9 + 0.01 * rng.normal(size=20), model=model)
    ]
    found = compare(many)
    assert min(comparison.p_value for comparison in found) < 0.05  # of 30 equal pairs: alone it would be a finding
    assert {comparison.verdict for comparison in found} == {"no difference seen"}
    np.testing.assert_allclose([c.adjusted_p for c in found], holm([c.p_value for c in found]))


def test_schemes_are_apart():
    scheme = {"name": "auto"}, {"name": "increment-end"}
    found = compare(
        [*records("random", [0.5, 0.6]), *(r for s in scheme for r in records("sequence", [0.4, 0.7], scheme=s))]
    )
    assert [comparison.scheme for comparison in found] == list(scheme)


def test_target():
    base = records("random", [[0.5, 0.9], [0.7, 0.9]])
    other = records("hash", [[0.9, 0.9], [0.95, 0.9]])
    default, given = compare([*base, *other])[0], compare([*base, *other], target=0.6)[0]
    assert default.target == pytest.approx(0.95 * 0.9)
    assert (default.epochs, default.baseline_epochs, default.reached) == (1, 2, 1)
    assert (given.target, given.baseline_epochs) == (0.6, 1.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"baseline": "randm"}, "`baseline` must be one of .*, got 'randm'; did you mean 'random'"),
        ({"target": 95}, "`target` must be an accuracy between 0 and 1, got 95"),
        (
            {"baseline": "autoinit"},
            "two seeds of the baseline 'autoinit' and of another source; there is hash, random",
        ),
    ],
)
def test_wrong_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        compare([*records("random", [0.1, 0.2]), *records("hash", [0.1, 0.2])], **options)


def test_too_few_seeds_are_called_that():
    few = compare([*records("random", [0.1] * 5), *records("hash", [0.9] * 5)])[0]
    more = compare([*records("random", [0.1] * 6), *records("hash", [0.9] * 6)])[0]
    assert (few.verdict, more.verdict) == ("too few seeds", "better")


def test_what_is_incomplete_is_left_out():
    there = [*records("random", [0.1, 0.2]), *records("sobol", [0.1, 0.3])]
    with pytest.warns(IncompleteWarning, match="digits, mlp2, adam, he_normal: hash and random have fewer than two"):
        found = compare([*there, *records("hash", [0.1], seeds=[1])])
    assert [one.source for one in found] == ["sobol"]


def test_many_clear_differences_stay_clear():
    many = [
        record
        for model in map(str, range(320))
        for record in (*records("random", [0.5] * 20, model=model), *records("hash", [0.7] * 20, model=model))
    ]
    assert {one.verdict for one in compare(many)} == {"better"}


def test_baseline_in_the_papers_order():
    scheme = {"name": "auto", "min_dim": 1}
    found = compare(
        [*records("random", [0.5, 0.6]), *records("sequence", [0.4, 0.7], scheme=scheme)], baseline="sequence"
    )
    assert [(one.source, one.baseline) for one in found] == [("random", "sequence")]
    twice = [
        *records("sequence", [0.4, 0.7], scheme=scheme),
        *records("sequence", [0.4, 0.7], scheme={"name": "other"}),
    ]
    with pytest.raises(ValueError, match="`baseline` 'sequence' comes with several schemes"):
        compare([*records("random", [0.5, 0.6]), *twice], baseline="sequence")


def test_records_pair_whatever_the_order_of_their_settings():
    base = records("random", [0.5, 0.6])
    turned = [{**one, "settings": dict(reversed(one["settings"].items()))} for one in records("hash", [0.6, 0.7])]
    assert len(compare([*base, *turned])) == 1


def test_other_data_do_not_pair():
    base = [{**one, "data": "a"} for one in records("random", [0.5, 0.6])]
    other = [{**one, "data": "b"} for one in records("hash", [0.6, 0.7])]
    with pytest.raises(ValueError, match="holds no experiment with two seeds"):
        compare([*base, *other])
