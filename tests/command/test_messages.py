"""Messages that lead on: what is missing, with the text to add; that nothing is to do."""

from pathlib import Path
from typing import List, NoReturn

import numpy as np
import pytest

from caffe_merge import validation
from caffe_merge.command.cli import main, merge_bn
from caffe_merge.merging.convert import convert
from caffe_merge.merging.planning import Conversion
from tests.command.test_cli import TEXT, flags
from tests.nets import Pair, prototxt, write_pair
from tests.real_caffe import RealCaffe


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return write_pair(tmp_path, TEXT)


NOTHING = prototxt("data 1 2 3 4", "t: TanH data -> t")


def test_nothing_to_do_costs_no_forward_pass(
    pair: Pair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(*_: object, **__: object) -> NoReturn:
        raise AssertionError("it was validated")

    monkeypatch.setattr(validation, "validate", forbidden)
    assert merge_bn(flags(write_pair(tmp_path, NOTHING, None, "none"))) == 0
    out = capsys.readouterr().out
    assert "nothing to do: no layer was changed, so there is nothing to validate" in out
    assert (tmp_path / "none_merged.prototxt").read_text() == NOTHING
    with pytest.raises(AssertionError, match="validated"):
        convert(Conversion(*map(str, pair), *(str(path) + ".out" for path in pair)))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (NOTHING, []),
        (
            NOTHING.replace("Input", "Data").replace("input_param", "include { phase: TEST } # "),
            [
                "the shape of 'data' is not known: add --input-shape data=1,CHANNELS,HEIGHT,WIDTH",
                "note: a training file (data 'data'), merged as it is; --deploy makes Input of "
                "data layers and Softmax of SoftmaxWithLoss, and takes out labels, losses and "
                "Accuracy",
            ],
        ),
        (
            'input: "data"\n' + NOTHING.partition("}\n")[2].partition("}\n")[2],
            ["the shape of 'data' is not known: add --input-shape data=1,CHANNELS,HEIGHT,WIDTH"],
        ),
        (
            prototxt("data 1 8 9 3", "t: TanH data -> t"),
            [
                "note: input 'data' has shape (1, 8, 9, 3), as if channels were last: Caffe has "
                "batch, channels, height, width: 1,3,8,9"
            ],
        ),
    ],
)
def test_inspect_says_what_is_missing(
    text: str, lines: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p").write_text(text)
    assert main(["inspect", "--model", str(tmp_path / "p")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if line.startswith(("note", "the shape"))] == lines


def test_validate_runs_what_caffe_reads(
    pair: Pair, capsys: pytest.CaptureFixture[str], real_caffe: RealCaffe
) -> None:
    """A text that only another reader takes: Caffe itself could not load the file."""
    pair[0].write_bytes(b"\xef\xbb\xbf" + pair[0].read_bytes())
    out = ["--output-model", str(pair[0]), "--output-weights", str(pair[1])]
    assert main(["validate", *flags(pair), *out, "--engine", "pycaffe"]) == 0
    assert "validation (pycaffe): passed" in capsys.readouterr().out


SHAPELESS = 'input: "data"\n' + TEXT.partition("}\n}\n")[2]


@pytest.mark.parametrize("command", ["merge", "validate"])
def test_an_input_without_a_shape_is_asked_for_by_its_flag(
    command: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair[0].write_text(SHAPELESS)
    line = f"{pair[0]}: the shape of input 'data' is not known, so the net cannot be run: give "
    line += "--input-shape data=1,3,HEIGHT,WIDTH"
    line += ", or use --validate none" if command == "merge" else ""
    out = ["--output-model", str(pair[0]), "--output-weights", str(pair[1])]
    more = out if command == "validate" else []
    assert main([command, *flags(pair, *more)]) == 2
    assert capsys.readouterr().err == f"caffe-merge: error: {line}\n"
    assert main([command, *flags(pair, *more, "--input-shape", "data=1,3,6,5")]) == 0
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal((1, 3, 6, 5)))
    arguments = ["--input", f"data={tmp_path / 'x.npy'}", "--force"][: 2 if more else 3]
    assert main([command, *flags(pair, *more, *arguments)]) == 0


def test_validate_says_what_is_wrong_with_a_net(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    text = pair[0].read_text().replace('type: "Input"', 'type: "Data" include { phase: TRAIN }')
    pair[0].write_text(text)
    out = ["--output-model", str(pair[0]), "--output-weights", str(pair[1])]
    assert main(["validate", *flags(pair, *out)]) == 2
    assert "--deploy makes it an Input" in capsys.readouterr().err


TRAINING_DATA = """layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { batch_size: 2 } transform_param { crop_size: 6 } }
"""
HEAD = prototxt("fc: InnerProduct data -> fc { inner_product_param { num_output: 4 } }")
LOSS = prototxt("loss: SoftmaxWithLoss fc label -> loss")


@pytest.mark.parametrize("deploy", [True, False])
def test_a_training_file_is_not_compared_with_one_to_deploy(
    tmp_path: Path, deploy: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (tmp_path / "train.prototxt", tmp_path / "other.prototxt")
    blobs = {"fc": [np.ones((4, 108)), np.ones(4)]}
    old = write_pair(tmp_path, TRAINING_DATA + HEAD + LOSS, blobs, "train")
    deployed = prototxt("data 1 3 6 6") + HEAD
    new = write_pair(tmp_path, TRAINING_DATA + HEAD + LOSS if deploy else deployed, blobs, "other")
    outputs = ["--output-model", str(new[0]), "--output-weights", str(new[1])]
    more = ["--deploy"] if deploy else []
    assert main(["validate", *map(str, old), *outputs, *more]) == 2
    expected = (
        f"{text[1]}: still a training file, compared with one to deploy: merge it with --deploy, "
        "or validate without"
        if deploy
        else f"{text[0]}: a training file, and {text[1]} is one to deploy: "
        "--deploy makes it such a one"
    )
    assert capsys.readouterr().err == f"caffe-merge: error: {expected}\n"


def test_errors_name_the_text_of_the_user_not_the_one_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = {"fc": [np.ones((4, 108)), np.ones(4)]}
    old = write_pair(tmp_path, TRAINING_DATA + HEAD + LOSS, blobs, "train")
    new = write_pair(
        tmp_path, prototxt("image 1 3 6 6") + HEAD.replace('"data"', '"image"'), blobs, "other"
    )
    outputs = ["--output-model", str(new[0]), "--output-weights", str(new[1])]
    assert main(["validate", *map(str, old), *outputs, "--deploy"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"caffe-merge: error: {old[0]}: the inputs differ: 'data' before, ")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("data 1 2 20000 20000", "a blob of 800000000 values is too large to run here; give a "
                                 "smaller --input-shape"),
        ("data: Data  -> data", "its data are not here: give --input-shape data=..."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["merge", "validate"])
def test_only_a_merge_may_do_without_validation(
    command: str, line: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conv = "c: Convolution data -> c { convolution_param { num_output: 2 kernel_size: 1 } }"
    text = prototxt(line, conv, "n: BatchNorm c -> n", "t: TanH n -> t")
    weights = {"c": [np.ones((2, 2, 1, 1)), np.ones(2)], "n": [np.ones(2), np.ones(2), np.ones(1)]}
    pair = write_pair(tmp_path, text, weights)
    arguments = [command, *map(str, pair), "-q"]
    if command == "validate":
        arguments += ["--output-model", str(pair[0]), "--output-weights", str(pair[1])]
    assert main(arguments) in (1, 2)
    error = capsys.readouterr().err
    assert reason in error
    assert ("--validate none" in error) == (command == "merge")
