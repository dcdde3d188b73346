"""Options: each is declared once, checked, and named in errors as whoever reads them has it."""

import argparse
import ast
import pickle
import re
from pathlib import Path
from typing import Iterator

import pytest

import caffe_merge
from caffe_merge.command.cli import main
from caffe_merge.command.flags import add_flag, flag_of
from caffe_merge.errors import CaffeMergeError, OptionName, Text, UsageError, spelled
from caffe_merge.notes import SHARED, Reason
from caffe_merge.options import DECLARED, Options
from tests.nets import load, prototxt, write_pair

LINES = ("data 2 3 6 5", "conv: Convolution data -> conv { convolution_param { num_output: 4 "
         "kernel_size: 3 } }")  # fmt: skip


def test_defaults() -> None:
    options = Options()
    assert {n: getattr(options, n) for n in DECLARED} == {n: d.default for n, d in DECLARED.items()}
    assert repr(Options(serial="never", keep=["a"])) == "Options(keep=['a'], serial='never')"
    assert Options(serial="never").with_(keep_shared=True).serial == "never"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"serial": "sometimes"}, "serial: expected one of auto, always, never, found 'sometimes'"),
        ({"affine_as": "Conv"}, "affine_as: expected one of conv, scale, found 'Conv'"),
        ({"keep_share": True}, "a merge has no option 'keep_share'; did you mean 'keep_shared'?"),
        ({"xyz": 1}, "a merge has no option 'xyz'; there are only, skip, keep, "),
    ],
)
def test_what_is_no_option(arguments: "dict[str, object]", message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options(**arguments)
    assert str(caught.value).startswith(message)


def test_flags_are_made_of_them() -> None:
    parser = argparse.ArgumentParser()
    for name, declared in DECLARED.items():
        if declared.help:
            add_flag(parser.add_argument, name)
    words = "--only a --only b --swap-rgb --serial never --keep-shared --mean 1,2,3"
    arguments = vars(parser.parse_args(words.split()))
    options = Options(**arguments)
    assert (options.only, options.swap_rgb, options.serial) == (["a", "b"], True, "never")
    assert (options.keep_shared, options.mean, options.skip) == (True, "1,2,3", [])


def test_each_names_an_option_its_way() -> None:
    error = UsageError(OptionName("swap_rgb"), ": no ", OptionName("mean"), " --mean")
    assert str(error) == "swap_rgb: no mean --mean"
    assert error.text(flag_of) == "--swap-rgb: no --mean --mean"
    assert CaffeMergeError("as it is").text(flag_of) == "as it is"


def test_a_text_keeps_its_options_in_another_text() -> None:
    inner = Text("needs ", OptionName("keep_dtype"), " --here")
    reason = Reason.about("layer 'a'", Reason(Text("it ", inner), SHARED))
    line = Text.joined("; ", ["so", reason])
    assert line == "so; layer 'a': it needs keep_dtype --here"
    assert spelled(line, flag_of) == "so; layer 'a': it needs --keep-dtype --here"
    assert spelled("plain --here", flag_of) == "plain --here"
    for text in (line, reason, "and " + reason + "."):
        same = pickle.loads(pickle.dumps(text))
        assert spelled(same, flag_of) == spelled(text, flag_of)
    error = pickle.loads(pickle.dumps(UsageError(inner)))
    assert error.text(flag_of) == "needs --keep-dtype --here"


# Flags of another program.
NOT_OURS = {"--include_imports", "--descriptor_set_out="}


def literals(tree: ast.AST) -> Iterator[str]:
    """The strings of a module, docstrings left out: they may speak of the command line."""
    docs = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
            yield node.value


def test_no_module_below_the_command_line_knows_flags() -> None:
    package = Path(caffe_merge.__file__).parent
    modules = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    below = {name: path for name, path in modules.items() if not name.startswith("command/")}
    naming = {
        name
        for name, path in below.items()
        for text in literals(ast.parse(path.read_text()))
        if re.search("--[a-z]", text) and text not in NOT_OURS
    }
    assert naming == set()


@pytest.mark.parametrize(
    ("options", "flags", "message"),
    [
        (
            {"swap_rgb": True, "mean": [1, 2]},
            ["--swap-rgb", "--mean", "1,2"],
            "{}: expected 1 or 3",
        ),
        ({"input_layer": True}, ["--input-layer"], "{}: there is no {} or {} to be a layer of"),
        ({"scale": 0}, ["--scale", "0"], "{}: expected values other than 0"),
        ({"keep": ["x"]}, ["--keep", "x"], "{} x: the net has no layer of this name"),
    ],
)
def test_library_and_command_line(
    options: "dict[str, object]",
    flags: "list[str]",
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same error of both, with names as each has them."""
    with pytest.raises(UsageError) as caught:
        caffe_merge.merge(load(tmp_path, prototxt(*LINES)), **options)
    assert "--" not in str(caught.value)
    text = prototxt(*LINES)
    pair = write_pair(tmp_path, text)
    assert main(["plan", "--model", str(pair[0]), "--weights", str(pair[1]), *flags]) == 2
    line = capsys.readouterr().err
    assert line == f"caffe-merge: error: {caught.value.text(flag_of)}\n"
    assert message.split("{}")[-1][:12] in line
    assert "--" in line


def test_one_name_is_not_taken_letter_by_letter() -> None:
    assert Options(skip="merge-serial", keep="conv1").skip == ("merge-serial",)
    assert Options(keep=["a", "b"]).keep == ["a", "b"]
