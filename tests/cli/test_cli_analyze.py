"""`qrjax analyze`: models of every kind by their names, and what a person did wrong in a line or two."""

import io
import json
import re
import sys

import jax
import jax.numpy as jnp
import pytest
from driving import ESCAPE, PNG, in_terminal_here, run
from flax import nnx

import qrjax
from qrjax._cli import main
from qrjax._cli._inputs import DTYPES, Input, arrays, written
from qrjax._terminal._tables import text as table_text

MODEL = """
import flax.linen as nn
import jax
from flax import nnx


class CNN(nn.Module):
    features: int = 4

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.Conv(self.features, (3, 3), name="conv")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x).mean(axis=(1, 2)))
        return nn.Dense(10, name="head")(x)


class Tokens(nn.Module):
    @nn.compact
    def __call__(self, ids, mask=None):
        print("tokens are traced")
        x = nn.Embed(20, 8)(ids)
        return nn.Dense(20)(x if mask is None else x * mask)

    def embed(self, ids):
        return self(ids)


class MLP(nnx.Module):
    def __init__(self, width=8, *, rngs: nnx.Rngs):
        self.hidden, self.head = nnx.Linear(4, width, rngs=rngs), nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.hidden(x)))


class Deep(nn.Module):
    scale: float

    @nn.compact
    def __call__(self, x):
        for _ in range(4):
            x = self.scale * nn.Dense(16)(x)
        return x


class Zoo:
    small = CNN(2)


def made(width):
    return MLP(width, rngs=nnx.Rngs(0))


def failing():
    raise RuntimeError("no weights\\nare here")


def nothing():
    return 3


value = 3
instance = CNN()
pair = (lambda key, x: {"w": jax.random.normal(key, (4, 2))}, lambda params, x: x @ params["w"])
"""
BROKEN = {
    "syntax": "x = 1\ndef f(:\n",
    "imports": "import a_package_that_is_not_there\n",
    "raises": "import numpy as np\nx = np.zeros(3) @ np.zeros(4)\n",
    "leaves": "import sys\nprint('good bye')\nsys.exit(3)\n",
}
IMAGES = ("--input", "1,8,8,3", "--kwarg", "train=False")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a person's own modules, which is the current one; what was imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "inner" / "__init__.py").touch()
    (tmp_path / "package" / "layers.py").write_text("from flax.linen import Dense\n")
    (tmp_path / "package" / "inner" / "net.py").write_text("from ..layers import Dense\nmodel = Dense(3)\n")
    for name, text in BROKEN.items():
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def shaped(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def analyzed(name, *arguments, **options):
    """What qrjax.analyze says of a model of the folder's file, without the command line."""
    namespace = {}
    exec(MODEL, namespace)
    return qrjax.analyze(eval(name, namespace | {"nnx": nnx}), *arguments, **options)


def printed(capsys, *arguments):
    assert main(["analyze", *arguments]) == 0
    return capsys.readouterr().out


KINDS = [
    ("model.py:CNN", IMAGES, "CNN()", (shaped(1, 8, 8, 3),), {"train": False}),
    ("model:CNN", ("--arg", "features=3", *IMAGES), "CNN(3)", (shaped(1, 8, 8, 3),), {"train": False}),
    ("model:instance", IMAGES, "instance", (shaped(1, 8, 8, 3),), {"train": False}),
    ("model:Zoo.small", IMAGES, "Zoo.small", (shaped(1, 8, 8, 3),), {"train": False}),
    ("model:Tokens", ("--input", "1,6:int32"), "Tokens()", (shaped(1, 6, dtype=jnp.int32),), {}),
    ("model.py:MLP", ("--input", "1,4"), "MLP(rngs=nnx.Rngs(0))", (shaped(1, 4),), {}),
    ("model.py:MLP", ("--arg", "width=3", "--input", "(1, 4)"), "MLP(3, rngs=nnx.Rngs(0))", (shaped(1, 4),), {}),
    ("model.py:made", ("--arg", "width=5", "--input", "2,4"), "made(5)", (shaped(2, 4),), {}),
    ("model:pair", ("--input", "1,4"), "pair", (shaped(1, 4),), {}),
    ("package.inner.net:model", ("--input", "1,4"), "nn.Dense(3)", (shaped(1, 4),), {}),
    ("package/inner/net.py:model", ("--input", "1,4"), "nn.Dense(3)", (shaped(1, 4),), {}),
]


@pytest.mark.few("model.py:CNN*", "model:Tokens*", "model.py:made*", "model:pair*", "package/inner*")
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("target", "options", "name", "arguments", "keywords"), KINDS)
def test_models_of_every_kind(target, options, name, arguments, keywords, capsys):
    expected = analyzed(name, *arguments, **keywords)
    capsys.readouterr()
    shown = printed(capsys, target, *options)
    assert shown.startswith(f"{expected}\n\nin: E x² is")
    assert json.loads(printed(capsys, target, *options, "--json")) == json.loads(expected.to_json())


OPTIONS = [
    (("--default",), {"weights": "module"}),
    (("--target", "0.5"), {"target": 0.5}),
    (("--input-mean", "2", "--input-variance", "0.5"), {"input_mean": 2.0, "input_variance": 0.5}),
    (("--select", "conv/*"), {"select": "conv/*"}),
    (("--select", "conv/*", "--select", "*/bias"), {"select": ["conv/*", "*/bias"]}),
    (("--layout", "neurons"), {"layout": "neurons"}),
    (("--gradients",), {"gradients": True}),
    (("--head", "0"), {"head": 0.0}),
    (("--kwarg", "train=True", "--rngs", "dropout"), {"train": True, "rngs": ("dropout",)}),
]


@pytest.mark.some(3)
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("options", "keywords"), OPTIONS, ids=lambda value: " ".join(value))
def test_options_are_those_of_analyze(options, keywords, capsys):
    expected = analyzed("CNN()", shaped(1, 8, 8, 3), **{"train": False} | keywords)
    assert expected.to_json() != analyzed("CNN()", shaped(1, 8, 8, 3), train=False).to_json()
    found = json.loads(printed(capsys, "model.py:CNN", *IMAGES, *options, "--json"))
    assert found == json.loads(expected.to_json())


@pytest.mark.usefixtures("folder")
def test_gradients_are_explained_where_they_are_shown(capsys):
    shown = printed(capsys, "model.py:Deep", "--arg", "scale=1.0", "--input", "1,16", "--gradients")
    assert all(column in shown for column in ("E g²", "|g|", "E w'²", "|w'|"))
    assert "E g² is the second moment of the gradient with respect to an output" in " ".join(shown.split())
    assert "the gradient by" not in printed(capsys, "model.py:Deep", "--arg", "scale=1.0", "--input", "1,16")


@pytest.mark.usefixtures("folder")
def test_rates_are_those_of_learning_rates_and_fit_a_narrow_page(capsys, monkeypatch):
    namespace = {}
    exec(MODEL, namespace)
    chosen = {"optimizer": "muon", "outputs": 16.0}
    report = qrjax.learning_rates(namespace["CNN"](), shaped(1, 8, 8, 3), train=False, report=True, **chosen)[1]
    options = ("model.py:CNN", *IMAGES, "--rates", "--optimizer", "muon", "--outputs", "16")
    assert json.loads(printed(capsys, *options, "--json")) == json.loads(report.to_json())
    monkeypatch.setenv("COLUMNS", "80")
    shown = " ".join(printed(capsys, *options).split())
    assert "conv/kernel convolution" in shown
    assert "rate is the multiplier of the learning rate (muon)" in shown
    assert max(map(len, table_text(report._table(), 80).splitlines())) <= 80


@pytest.mark.usefixtures("folder")
def test_options_that_do_not_go_with_rates(capsys):
    for options, said in (
        (("--optimizer", "sgd"), "add --rates"),
        (("--outputs", "16"), "add --rates"),
        (("--rates", "--outputs", "0"), "--outputs"),
        (("--rates", "--gradients"), "--gradients belongs to that of the signal"),
        (("--rates", "--optimizer", "adamw"), "did you mean"),
        (("--head", "-1"), "--head"),
        (("--branches", "0"), "`--branches` must be positive"),
        (("--branches", "1"), "`--branches` is for what weights add to a residual stream"),
    ):
        assert main(("analyze", "model.py:CNN", *IMAGES, *options)) != 0
        assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_jax_own(dtype):
    ((found,), named) = arrays([Input("", (2, 3), "")], [dtype])
    assert (found, named) == (shaped(2, 3, dtype=jnp.dtype(dtype)), {})
    assert written(found) == f"2,3:{dtype}"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "options",
    [
        ("--input", "1,6:int32", "--input", "1,6,1"),
        ("--input", "1,6", "--input", "mask=1,6,1:float32", "--dtype", "int32"),
        ("--input", "1,6", "--dtype", "int32", "--input", "1,6,1", "--dtype", "float32"),
    ],
    ids=["position", "name", "dtypes"],
)
def test_several_inputs_have_dtypes_of_their_own(options, capsys):
    expected = analyzed("Tokens()", shaped(1, 6, dtype=jnp.int32), shaped(1, 6, 1))
    capsys.readouterr()
    assert json.loads(printed(capsys, "model:Tokens", *options, "--json")) == json.loads(expected.to_json())


@pytest.mark.usefixtures("folder")
def test_another_method_and_prints_of_the_model(capsys):
    assert main(["analyze", "model:Tokens", "--input", "1,6:int32", "--method", "embed", "--json"]) == 0
    shown, aside = capsys.readouterr()
    expected = analyzed("Tokens()", shaped(1, 6, dtype=jnp.int32), method="embed")
    assert json.loads(shown) == json.loads(expected.to_json())
    assert "tokens are traced" in aside


@pytest.mark.usefixtures("folder")
def test_where_there_is_but_ascii_columns_stay_where_they_are(capsys, monkeypatch):
    assert main(["analyze", "model.py:MLP", "--input", "1,4"]) == 0
    shown = capsys.readouterr().out
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["analyze", "model.py:MLP", "--input", "1,4"]) == 0
    assert stream.buffer.getvalue().decode() == shown.replace("²", "2")


@pytest.mark.usefixtures("folder")
def test_findings_are_in_words(capsys):
    shown = printed(capsys, "model.py:Deep", "--arg", "scale=0.01", "--input", "1,16", "--default")
    assert "\n- vanishing: the predicted second moment falls to" in shown
    assert "module's own initialization" in shown


WRONG = [
    ("model.py:CNN", (), "give the shape that the model is called with, e.g. --input 1,32,32,3"),
    ("nowhere:CNN", IMAGES, "`MODULE:NAME` must begin with a module that can be imported from here .*got 'nowhere'"),
    ("nowhere.py:CNN", IMAGES, "`MODULE:NAME` must begin with .*there is no file 'nowhere.py'"),
    ("my-model:CNN", IMAGES, "`MODULE:NAME` must begin with a dotted module or the path of a .py file, got 'my-model'"),
    (":CNN", IMAGES, "`MODULE:NAME` must begin with a dotted module or the path of a .py file, got ''"),
    ("model:", IMAGES, "must name a model after a colon, got 'model:'; its models: model:CNN"),
    ("model:CMN", IMAGES, "'model' has no 'CMN'; did you mean CNN"),
    ("model:Zebra", IMAGES, "'model' has no 'Zebra'; its models: model:CNN, model:Tokens, model:MLP"),
    ("model:Zoo.large", IMAGES, "'model' has no 'Zoo.large'"),
    ("model:value", IMAGES, "must name a Linen or NNX module, .*; 'value' is 3; its models: model:CNN"),
    ("model:nothing", IMAGES, "must name a Linen or NNX module, .*; nothing\\(\\) gave 3"),
    (
        "model:made", IMAGES,
        r"`--arg` must fit made\(width\): missing a required argument: 'width'; for example --arg w"
    ),
    (
        "model:CNN", ("--arg", "x=1", *IMAGES),
        r"`--arg` must fit CNN\(features\): got an unexpected keyword argument 'x'"
    ),
    ("model:instance", ("--arg", "x=1", *IMAGES), "`--arg` is for classes and functions, and 'instance' is a model"),
    ("model:CNN", ("--arg", "features", *IMAGES), "`--arg` must be NAME=VALUE, got 'features'; for example train=F"),
    (
        "model:CNN", ("--input", "1,8,8,3", "--kwarg", "train=false"),
        "`--kwarg` must have a Python literal .*train=False"
    ),
    ("model:CNN", (*IMAGES, "--kwarg", "target=1"), "`--kwarg` cannot pass 'target', which is one of qrjax.analyze's"),
    (
        "model:CNN", ("--input", "1,8", "--input", "layout=1"),
        "`--input` cannot pass 'layout', which is one of qrjax.ana"
    ),
    (
        "model:Tokens", ("--input", "1", "--input", "mask=1", "--kwarg", "mask=1"),
        "`--kwarg` cannot pass 'mask', .*twice"
    ),
    ("model:CNN", ("--input", "1x8x8x3"), "`--input` must be positive sizes .*got '1x8x8x3'; for example --input 1,32"),
    ("model:CNN", ("--input", "0,8"), "`--input` must be positive sizes .*got '0,8'"),
    ("model:CNN", ("--input", "1,8:int64"), "`--input` must have the dtype .*got 'int64'; did you mean int16"),
    ("model:CNN", ("--input", "x=1,8"), "`--input` must have one without a name, which comes first"),
    ("model:CNN", (*IMAGES, "--dtype", "float31"), "`--dtype` must be float32, .*got 'float31'; did you mean float32"),
    ("model:CNN", (*IMAGES, "--dtype", "int8", "--dtype", "int8"), "`--dtype` must be given once, .*got 2 for 1"),
    ("model:CNN", (*IMAGES, "--target", "-1"), "`--target` is a second moment, so it must be positive .*got -1.0"),
    ("model:CNN", (*IMAGES, "--target", "one"), "`--target` must be a number, got 'one'; for example --target 1"),
    ("model:CNN", (*IMAGES, "--input-variance", "nan"), "`--input-variance` must be a number, got 'nan'"),
    ("model:CNN", (*IMAGES, "--input-variance", "-1"), "`--input-variance` must be finite and not negative, got -1.0"),
    ("model:CNN", (*IMAGES, "--select", "nowhere"), "`--select`: 'nowhere' matches no parameter; paths: conv/bias"),
    ("model:CNN", (*IMAGES, "--layout", "neuron"), "`--layout` must be .*got 'neuron'; did you mean neurons"),
    ("model:CNN", (*IMAGES, "--plot", "signal.jpg"), "`--plot` must end in .png, .pdf or .svg, got 'signal.jpg'"),
]  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("target", "options", "message"), WRONG)
def test_wrong_arguments_are_usage_errors(target, options, message, capsys):
    complains(capsys, 2, target, options, message)


FAILURES = [
    ("syntax.py:x", IMAGES, r"'syntax.py' cannot be imported: SyntaxError: .* \(syntax.py, line 2: def f\(:\)"),
    ("imports:x", IMAGES, r"ModuleNotFoundError: No module named 'a_package.*' \(imports.py, line 1: import a_package"),
    ("raises.py:x", IMAGES, r"'raises.py' cannot be imported: ValueError: matmul.* \(raises.py, line 2: x = np.zeros"),
    ("leaves:x", IMAGES, r"'leaves' cannot be imported: SystemExit: 3 \(leaves.py, line 3: sys.exit\(3\)\)"),
    (
        "model:failing", IMAGES,
        r"failing cannot be called: RuntimeError: no weights are here \(model.py, line \d+: raise"
    ),
    (
        "model:MLP", ("--input", "1,5"),
        r"model:MLP cannot be called with 1,5:float32: TypeError: dot_general.* \(model.py"
    ),
    ("model:CNN", ("--input", "1,8"), r"model:CNN cannot be called with 1,8:float32: .* \(model.py, line 1\d: x = "),
    (
        "model:Deep", ("--arg", "scale=1", "--input", "2", "--input", "2"),
        "TypeError: .*give arrays by --input, one for"
    ),
    (
        "model:Tokens", ("--input", "1,6"),
        "ValueError: Input type must be an integer.*; token ids .*--input 1,128:int32"
    ),
    ("model:CNN", (*IMAGES, "--method", "encode"), 'AttributeError: .* has no attribute "encode"'),
]  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("target", "options", "message"), FAILURES)
def test_errors_of_the_model_are_its_own_words(target, options, message, capsys):
    complaint = complains(capsys, 1, target, options, message)
    own = [line for line in complaint.splitlines() if line not in ("good bye", "tokens are traced")]
    assert len(own) == 1
    assert len(own[0]) < 800


def test_file_with_another_modules_name(folder, capsys):
    (folder / "json.py").write_text("model = 3\n")
    complains(capsys, 1, "json.py:model", IMAGES, "'json' is the name of another module, .*; rename the file")


def complains(capsys, status, target, options, message):
    assert main(["analyze", target, *options]) == status
    shown, complaint = capsys.readouterr()
    assert shown == ""
    assert re.search(message, complaint), complaint
    assert "Traceback" not in complaint
    return complaint


@pytest.mark.usefixtures("folder")
def test_without_a_name_the_models_are_listed(capsys):
    assert main(["analyze", "model.py"]) == 0
    shown = capsys.readouterr().out
    assert {"model.py:CNN", "model.py:Tokens"} <= {line.split()[0] for line in shown.splitlines() if line}
    assert shown.endswith("For example: qrjax analyze model.py:CNN --input 1,64\n")
    assert main(["analyze", "model.py", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "model.py:CNN"


class TestPlot:
    @pytest.mark.few("png*")
    @pytest.mark.parametrize(("suffix", "start"), [("png", PNG), ("svg", b"<?xml"), ("pdf", b"%PDF")])
    def test_is_whole_and_beside_the_default(self, suffix, start, folder, capsys):
        picture = folder / f"signal.{suffix}"
        shown = printed(capsys, "model.py:CNN", *IMAGES, "--plot", str(picture))
        assert shown.endswith(f"The picture is in {picture.name}\n")
        assert picture.read_bytes().startswith(start)
        assert not list(folder.glob(".*"))

    @pytest.mark.usefixtures("folder")
    def test_draws_the_report_and_the_default(self, capsys, monkeypatch):
        drawn = []

        def signal(report, *, default=None):
            drawn.append((report, default))
            return original(report, default=default)

        original = qrjax.plot.signal
        monkeypatch.setattr(qrjax.plot, "signal", signal)
        own = analyzed("CNN()", shaped(1, 8, 8, 3), train=False, weights="module").to_json()
        for more in ((), ("--default",)):
            shown = printed(capsys, "model.py:CNN", *IMAGES, *more, "--plot", "signal.svg", "--json")
            assert json.loads(shown) == json.loads(drawn[-1][0].to_json())
        (_, beside), (alone, none) = drawn
        assert beside.to_json() == alone.to_json() == own
        assert none is None

    def test_that_fails_keeps_the_old_file(self, folder, capsys, monkeypatch):
        from matplotlib.figure import Figure

        def full(_figure, path, **_options):
            path.write_text("half of the n")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Figure, "savefig", full)
        (folder / "signal.png").write_text("old")
        assert main(["analyze", "model.py:CNN", *IMAGES, "--plot", "signal.png"]) == 1
        assert "No space left on device; choose another --plot" in capsys.readouterr().err
        assert (folder / "signal.png").read_text() == "old"
        assert not list(folder.glob(".*"))

    @pytest.mark.usefixtures("folder")
    def test_without_matplotlib_says_what_to_install(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert main(["analyze", "model.py:CNN", *IMAGES, "--plot", "signal.png"]) == 1
        shown, complaint = capsys.readouterr()
        assert (shown, complaint.count("pip install 'qrjax[plot]'")) == ("", 1)


class TestProcess:
    @pytest.mark.slow
    def test_prints_a_plain_table(self, folder, environment):
        finished = run("analyze", "model.py:CNN", *IMAGES, "--plot", "signal.png", cwd=folder, env=environment)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert not ESCAPE.search(finished.stdout)
        expected = analyzed("CNN()", shaped(1, 8, 8, 3), train=False)
        assert finished.stdout.startswith(f"{expected}\n")
        assert (folder / "signal.png").read_bytes().startswith(PNG)

    @pytest.mark.slow
    def test_shows_no_traceback(self, folder, environment):
        finished = run("analyze", "model.py:CNN", "--input", "1,8", cwd=folder, env=environment)
        assert (finished.returncode, finished.stdout) == (1, "")
        assert finished.stderr.startswith("qrjax: error: model.py:CNN cannot be called with 1,8:float32: ")
        assert finished.stderr.count("\n") == 1

    @pytest.mark.slow
    @pytest.mark.whole_tables("model:Tokens-*")
    @pytest.mark.parametrize(("target", "options"), [("model:MLP", ("1,4",)), ("model:Tokens", ("1,6:int32",))])
    def test_other_models_from_the_current_folder(self, target, options, folder, environment):
        finished = run("analyze", target, "--input", *options, "--json", cwd=folder, env=environment)
        assert finished.returncode == 0
        assert json.loads(finished.stdout)["rows"]

    @pytest.mark.slow
    def test_in_a_terminal(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        shown, status = in_terminal_here("analyze", "model.py:CNN", *IMAGES)
        assert status == 0
        assert "Conv" in shown
