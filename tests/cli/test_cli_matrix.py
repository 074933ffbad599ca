"""`qrjax matrix`: its statistics against NumPy's and textbook formulas, its files, digests and refusals."""

import hashlib
import itertools
import json
import math
import os
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from driving import in_terminal_here

import qrjax
from qrjax._cli import _reproduction, main
from qrjax._initializers._initializer import Initializer

SMALL = ("--rows", "48", "--columns", "16")
VARIANCES = {"he": 2 / 48, "kaiming": 2 / 48, "lecun": 1 / 48, "xavier": 2 / (48 + 16), "glorot": 2 / (48 + 16)}
# Of a standard normal truncated at two.
TRUNCATED = scipy.stats.truncnorm(-2, 2).std()


def said(capsys, *arguments):
    """The JSON that the command prints, and nothing else."""
    assert main(["matrix", *arguments, "--json"]) == 0
    printed, complaint = capsys.readouterr()
    assert complaint == ""
    return json.loads(printed)


FAST = {("he", "normal"), ("kaiming", "uniform"), ("lecun", "uniform"), ("xavier", "normal"), ("glorot", "uniform")}
LAWS = [
    pytest.param(*case, marks=[pytest.mark.slow] * (case not in FAST))
    for case in itertools.product(VARIANCES, ("normal", "uniform"))
]


@pytest.mark.few("he-normal", "kaiming-uniform", "glorot-uniform")
@pytest.mark.parametrize(("mode", "distribution"), LAWS)
def test_declared_are_the_textbook_scales(mode, distribution, capsys):
    found = said(capsys, *SMALL, "--mode", mode, "--distribution", distribution)
    deviation = math.sqrt(VARIANCES[mode])
    bound = deviation * (math.sqrt(3) if distribution == "uniform" else 2 / TRUNCATED)
    assert found["declared"]["mean"] == 0
    assert found["declared"]["standard_deviation"] == pytest.approx(deviation, rel=1e-12)
    assert [found["declared"]["smallest"], found["declared"]["largest"]] == pytest.approx([-bound, bound], rel=1e-12)
    assert -bound < found["drawn"]["smallest"] < found["drawn"]["largest"] < bound
    # 768 independent weights would have an error of 2.6 %; stratified ones have far less.
    assert found["drawn"]["standard_deviation"] == pytest.approx(deviation, rel=0.01)


SLOW = {"layout", "wide", "orthogonal hash"}
MEMBERS = {
    "default": ((), lambda: qrjax.he_normal_qr(), "float32"),
    "hash": (("--source", "hash"), lambda: qrjax.he_normal_hash(), "float32"),
    "layout": (("--layout", "neurons", "--mode", "lecun"), lambda: qrjax.lecun_normal_qr(layout="neurons"), "float32"),
    "half": (("--dtype", "float16", "--distribution", "uniform"), lambda: qrjax.he_uniform_qr(), "float16"),
    "wide": (("--dtype", "float64"), lambda: qrjax.he_normal_qr(), "float64"),
    "orthogonal": (("--orthogonal",), lambda: qrjax.orthogonal_qr(), "float32"),
    "orthogonal hash": (("--orthogonal", "--source", "hash"), lambda: qrjax.orthogonal_hash(), "float32"),
}


@pytest.mark.few("hash", "half")
@pytest.mark.parametrize(
    ("options", "builder", "dtype"),
    [pytest.param(*member, marks=[pytest.mark.slow] * (name in SLOW), id=name) for name, member in MEMBERS.items()],
)
def test_saved_and_described_is_the_builders_array(options, builder, dtype, tmp_path, capsys):
    path = tmp_path / "weights.npy"
    found = said(capsys, *SMALL, "--seed", "7", *options, "--save", str(path))
    with jax.enable_x64(dtype == "float64"):
        weights = np.asarray(builder()(jax.random.key(7), (48, 16), dtype))
    kept = np.load(path)
    assert kept.dtype == weights.dtype == dtype
    np.testing.assert_array_equal(kept, weights, strict=True)
    assert os.listdir(tmp_path) == [path.name]
    assert found["builder"] == f"qrjax.{builder()!r}"
    assert (found["seed"], found["shape"], found["dtype"], found["bytes"]) == (7, [48, 16], dtype, weights.nbytes)
    assert found["sha256"] == hashlib.sha256(weights.tobytes()).hexdigest()
    wide = weights.astype(np.float64)
    singular = np.linalg.svd(wide, compute_uv=False)
    rank = math.exp(scipy.stats.entropy(singular**2))
    assert list(found["drawn"].values()) == pytest.approx([wide.mean(), wide.std(), wide.min(), wide.max(), rank])


def test_effective_rank_stands_beside_that_of_jax(capsys):
    found = said(capsys, *SMALL, "--seed", "5", "--mode", "glorot", "--distribution", "uniform")
    theirs = jax.nn.initializers.glorot_uniform()(jax.random.key(5), (48, 16))
    assert found["declared"]["effective_rank"] == qrjax.effective_rank(theirs)


def test_bfloat16_is_described_but_not_saved(tmp_path, capsys):
    found = said(capsys, *SMALL, "--dtype", "bfloat16")
    weights = qrjax.he_normal_qr()(jax.random.key(0), (48, 16), jnp.bfloat16)
    assert found["sha256"] == hashlib.sha256(np.asarray(weights).tobytes()).hexdigest()
    assert main(["matrix", "--dtype", "bfloat16", "--save", str(tmp_path / "x.npy")]) == 2
    assert re.search("`--save` cannot keep bfloat16.*choose another --dtype", capsys.readouterr().err)
    assert os.listdir(tmp_path) == []


def test_orthogonal_in_half_precision(capsys):
    """Which JAX's own does not draw."""
    found = said(capsys, "--orthogonal", "--rows", "5", "--columns", "3", "--dtype", "bfloat16")
    assert found["deviation_from_identity"] < 2**-6


@pytest.mark.parametrize("shape", [(48, 16), pytest.param((16, 48), marks=pytest.mark.slow), (1, 1)])
def test_orthogonal_tells_how_far_from_the_identity(shape, capsys):
    found = said(capsys, "--orthogonal", "--rows", str(shape[0]), "--columns", str(shape[1]))
    weights = np.asarray(qrjax.orthogonal_qr()(jax.random.key(0), shape), np.float64)
    product = weights.T @ weights if shape[0] >= shape[1] else weights @ weights.T
    assert found["deviation_from_identity"] == np.abs(product - np.eye(min(shape))).max() < 1e-5
    assert found["declared"]["effective_rank"] == min(shape)
    assert found["declared"]["standard_deviation"] == 1 / math.sqrt(max(shape))


def test_modes_are_compared_with_jax(capsys):
    table = said(capsys, *SMALL, "--compare-modes", "--distribution", "uniform")["modes"]
    sources = ["jax.random", "sobol", "hash"]
    assert [(row["mode"], row["source"]) for row in table] == [
        (mode, source) for mode in ("he", "xavier", "lecun") for source in sources
    ]
    for row in table:
        theirs = getattr(jax.nn.initializers, f"{row['mode']}_uniform")()
        ours = getattr(qrjax, f"{row['mode']}_uniform_{'hash' if row['source'] == 'hash' else 'qr'}")()
        init = theirs if row["source"] == "jax.random" else ours
        weights = np.asarray(init(jax.random.key(0), (48, 16)), np.float64)
        assert row["drawn"]["standard_deviation"] == weights.std()
        assert row["drawn"]["effective_rank"] == qrjax.effective_rank(weights)
        assert row["declared"]["standard_deviation"] == pytest.approx(math.sqrt(VARIANCES[row["mode"]]))


@pytest.mark.parametrize(
    ("options", "law"),
    [
        (("--distribution", "uniform"), scipy.stats.uniform(-math.sqrt(6 / 48), 2 * math.sqrt(6 / 48))),
        ((), scipy.stats.truncnorm(-2, 2, scale=math.sqrt(2 / 48) / TRUNCATED)),
        # A coordinate of a uniform point of the sphere in 48 dimensions, on (-1, 1).
        (("--orthogonal",), scipy.stats.beta(47 / 2, 47 / 2, loc=-1, scale=2)),
    ],
    ids=["uniform", "normal", "orthogonal"],
)
def test_histogram_has_the_declared_shares(options, law, tmp_path, capsys):
    bins = said(capsys, *SMALL, *options, "--show-dist", "--save", str(tmp_path / "w.npy"))["histogram"]
    edges = [bins[0]["low"], *(part["high"] for part in bins)]
    assert edges == sorted(edges)
    assert edges == [-edge for edge in reversed(edges)]
    # The orthogonal one is computed in float32.
    np.testing.assert_allclose([part["declared"] for part in bins], np.diff(law.cdf(edges)), atol=1e-5)
    counts, _ = np.histogram(np.load(tmp_path / "w.npy").astype(np.float64), edges)
    assert [part["drawn"] for part in bins] == (counts / 768).tolist()
    assert sum(part["drawn"] for part in bins) == pytest.approx(1)


def test_text_is_plain_and_has_every_section(capsys):
    assert main(["matrix", *SMALL, "--show-dist", "--compare-modes"]) == 0
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.startswith("qrjax.he_normal_qr(), seed 0\n48 x 16 float32 weights, 3,072 bytes\n")
    assert re.search(r"^standard deviation +0\.20\d+ +0\.204124$", shown, re.M)
    bound = f"{math.sqrt(2 / 48) * 2 / TRUNCATED:.6g}"
    assert re.search(rf"^smallest +-0\.[34]\d+ +> -{re.escape(bound)}$", shown, re.M)
    assert len(re.findall(r"^(?:he|xavier|lecun) +(?:jax\.random|sobol|hash) ", shown, re.M)) == 9
    bars = re.findall(r"^ *-?[\d.]+ +-?[\d.]+ +([\d.]+) +([\d.]+)  (#*) *\|#*$", shown, re.M)
    assert len(bars) == 20
    longest = max(float(share) for row in bars for share in row[:2])
    for drawn, declared, bar in bars:
        assert len(bar) == pytest.approx(36 * min(float(drawn), float(declared)) / longest, abs=1.1)


def test_orthogonal_text(capsys):
    assert main(["matrix", "--orthogonal", "--rows", "8", "--columns", "16"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^max \|W W\^T - I\| +[\d.e-]+ +0$", shown, re.M)
    assert "orthonormal rows." in shown.replace("\n", " ")


def test_rank_of_a_large_matrix_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr("qrjax._cli._weights.LARGEST_DECOMPOSITION", 48 * 16 * 16 - 1)
    assert said(capsys, *SMALL)["drawn"]["effective_rank"] is None
    assert main(["matrix", *SMALL, "--compare-modes"]) == 0
    shown = capsys.readouterr().out
    assert re.search("^effective rank +not computed +not computed$", shown, re.M)
    assert "The effective rank of so large a matrix would take minutes." in shown


class TestReproduction:
    """Eagerly, jitted, weight by weight, and in a fresh process, which is a real one in the first test alone."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options",
        [
            ("--source", "hash", "--dtype", "bfloat16", "--distribution", "uniform", "--seed", "9"),
            pytest.param(("--orthogonal",), marks=pytest.mark.slow),
            pytest.param(("--dtype", "float64", "--mode", "xavier"), marks=pytest.mark.slow),
            pytest.param(("--layout", "shuffled"), marks=pytest.mark.slow),
        ],
        ids=["hash", "orthogonal", "float64", "layout"],
    )
    def test_all_bits_are_equal(self, options, capsys):
        table = said(capsys, *SMALL, *options, "--test-repro")["reproduction"]
        assert [row["weights"] for row in table] == [768, 768, 768, 768]
        assert [row["equal"] for row in table] == [768, 768, 768, 768]

    @staticmethod
    def pretend(monkeypatch, digest=None, status=0):
        """Instead of the fresh process one that tells this digest, or the right one."""

        def finished(command, **_):
            weights = qrjax.he_normal_qr()(jax.random.key(0), (48, 16))
            told = digest or hashlib.sha256(np.asarray(weights).tobytes()).hexdigest()
            assert command[1:4] == ["-m", "qrjax", "matrix"]
            return SimpleNamespace(returncode=status, stdout=json.dumps({"sha256": told}), stderr="out of memory\n")

        monkeypatch.setattr(_reproduction, "subprocess", SimpleNamespace(run=finished))

    def test_table(self, monkeypatch, capsys):
        self.pretend(monkeypatch)
        assert main(["matrix", *SMALL, "--test-repro"]) == 0
        shown, complaint = capsys.readouterr()
        assert complaint == ""
        assert len(re.findall("^(?:operation|inside|one by one|in a fresh process).* 768  equal$", shown, re.M)) == 4

    def test_other_weights_in_another_process_fail(self, monkeypatch, capsys):
        self.pretend(monkeypatch, digest="0" * 64)
        assert main(["matrix", *SMALL, "--test-repro"]) == 1
        shown, complaint = capsys.readouterr()
        assert re.search("^in a fresh process +768  768 differ$", shown, re.M)
        assert complaint.startswith("qrjax: error: the weights differ when drawn in a fresh process; please report")

    def test_other_single_weights_fail(self, monkeypatch, capsys):
        def at(self, key, shape, index, dtype=None):
            return self(key, shape, dtype)[index].at[3].multiply(-1)

        self.pretend(monkeypatch)
        monkeypatch.setattr(Initializer, "at", at)
        assert main(["matrix", *SMALL, "--test-repro", "--json"]) == 1
        shown, complaint = capsys.readouterr()
        assert [row["equal"] for row in json.loads(shown)["reproduction"]] == [768, 768, 767, 768]
        assert "drawn one by one" in complaint

    def test_failure_of_the_process_is_told(self, monkeypatch, capsys):
        self.pretend(monkeypatch, status=3)
        assert main(["matrix", *SMALL, "--test-repro"]) == 1
        assert capsys.readouterr().err == "qrjax: error: the fresh process of --test-repro failed: out of memory\n"

    def test_the_process_is_asked_for_this_matrix(self, monkeypatch, capsys):
        asked = []

        def refused(command, **_):
            asked.append(command)
            return SimpleNamespace(returncode=1, stdout="", stderr="no")

        monkeypatch.setattr(_reproduction, "subprocess", SimpleNamespace(run=refused))
        options = ["--seed", "3", "--mode", "lecun", "--distribution", "uniform", "--layout", "neurons"]
        assert main(["matrix", *SMALL, *options, "--test-repro"]) == 1
        capsys.readouterr()
        (command,) = asked
        assert main(command[3:]) == 0
        again = json.loads(capsys.readouterr().out)
        assert again == said(capsys, *SMALL, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rows", "x"), "`--rows` must be a whole number from 1 to .*, got 'x'; for example --rows 64"),
        (("--columns", "0"), "`--columns` must be a whole number from 1 to .*, got '0'; for example --columns 64"),
        (("--seed", "-1"), "`--seed` must be a whole number from 0 to 4294967295, got '-1'"),
        (("--mode", "xaver"), "`--mode` must be he, xavier, .*, got 'xaver'; did you mean xavier"),
        (("--layout", "neuron"), "`--layout` must be .*, got 'neuron'; did you mean neurons"),
        (("--dtype", "int8"), "`--dtype` must be float32, bfloat16, float16 or float64, got 'int8'"),
        (("--save", "w.txt"), "`--save` must end in .npy, got 'w.txt'; for example w.npy"),
        (("--rows", "100000", "--columns", "100000"), "make 40,000,000,000 bytes of float32; this command draws up"),
        (("--rows", "67108864", "--dtype", "float64"), "make 34,359,738,368 bytes of float64"),
        (("--source", "hash", "--layout", "outputs"), "`--layout` is of Sobol' points, and --source hash has none"),
        (("--orthogonal", "--mode", "he"), "`--mode` has no meaning for an --orthogonal matrix"),
        (("--orthogonal", "--distribution", "normal"), "`--distribution` has no meaning for an --orthogonal"),
        (("--orthogonal", "--compare-modes"), "`--compare-modes` has no meaning for an --orthogonal"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_explained(options, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["matrix", *options]) == 2
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert re.match("qrjax matrix: error: .*" + message, complaint)


def test_collapse_is_a_line_on_stderr_and_json_stays_whole(capsys):
    assert main(["matrix", *SMALL, "--layout", "sequence", "--json"]) == 0
    printed, aside = capsys.readouterr()
    assert json.loads(printed)["drawn"]["effective_rank"] < 4
    assert re.fullmatch(r"qrjax matrix: warning: layout='sequence' fills shape \(48, 16\).*\n", aside)


def test_terminal_shows_blocks():
    shown, status = in_terminal_here("matrix", *SMALL, "--show-dist")
    assert status == 0
    assert re.search(r"1\.38  █████+.?│", shown)
    assert "#" not in shown
