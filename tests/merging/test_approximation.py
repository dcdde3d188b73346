"""What is not exact is measured and told; the verdict is on all the rest."""

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from caffe_merge.command import cli
from caffe_merge.command.library import convert
from caffe_merge.merging.approximation import Effect
from caffe_merge.merging.convert import Result
from tests.merger import random_inputs, run
from tests.nets import Pair, load_pair, prototxt, write_pair
from tests.passes.test_absorb_bias import LAST, START, conv, quiet

# What is cut off goes through two more layers: the effect is that at the outputs.
LINES = [*START, LAST, "t: TanH z -> t", conv("y", "t", 3)]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Its values spread as widely as its statistics say a tenth of them do: some are cut off."""
    return write_pair(tmp_path, prototxt(*LINES), quiet(LINES, variance=0.1), "net")


def outputs(pair: Pair) -> Pair:
    return pair[0].with_name("new.prototxt"), pair[1].with_name("new.caffemodel")


def arguments(pair: Pair, *more: str) -> List[str]:
    new = map(str, outputs(pair))
    flags = zip(("--model", "--weights", "--output-model", "--output-weights"),
                (*map(str, pair), *new))  # fmt: skip
    return [*(word for flag in flags for word in flag), *more]


def effects(result: Result) -> Tuple[Effect, ...]:
    approximation = result.report.approximation
    assert approximation is not None
    assert approximation.effects is not None
    return approximation.effects


def test_the_effect_is_measured(pair: Pair) -> None:
    """Against the original, in units of its largest value; the pair is in place all the same."""
    result = convert(*pair, *outputs(pair), absorb_bias=True)
    assert result.ok
    (effect,) = effects(result)
    assert effect.output == "y"
    inputs = random_inputs(load_pair(pair))
    before, after = (run(load_pair(files), inputs)["y"] for files in (pair, outputs(pair)))
    error = np.abs(after - before).max() / np.abs(before).max()
    assert effect.max_error > 1e-3 < error
    assert effect.max_error == pytest.approx(error, rel=3)  # other noise, of the same size
    assert 0 < effect.rms_error < effect.max_error


def test_the_effect_is_that_of_the_whole_net(pair: Pair) -> None:
    """Not that of one layer on the original's values: both nets run by themselves."""
    convert(*pair, *outputs(pair), absorb_bias=True)
    inputs = {"data": np.full((2, 6, 9, 11), 0.5)}
    array = pair[0].with_suffix(".npy")
    np.save(array, inputs["data"])
    result = convert(*pair, *outputs(pair), absorb_bias=True, force=True, input=[f"data={array}"])
    before, after = (run(load_pair(files), inputs)["y"] for files in (pair, outputs(pair)))
    error = np.abs(after - before).max() / np.abs(before).max()
    assert effects(result)[0].max_error == pytest.approx(error, rel=1e-3)


def test_the_verdict_is_on_the_rest(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that is wrong fails, however much absorbing the biases moves by itself."""
    assert convert(*pair, *outputs(pair), absorb_bias=True).ok
    new = outputs(pair)
    net = load_pair(new)
    weights = {layer.name: [blob.array().copy() for blob in layer.blobs] for layer in net.layers}
    weights["z"][1] += 1e-3
    write_pair(new[0].parent, new[0].read_text(), weights, "new")
    assert cli.main(["validate", *arguments(pair, "--absorb-bias", "-q")]) == cli.FAILED


def test_validate_says_the_same(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["merge", *arguments(pair, "--absorb-bias")]) == cli.OK
    merged = capsys.readouterr().out
    assert cli.main(["validate", *arguments(pair, "--absorb-bias")]) == cli.OK
    validated = capsys.readouterr().out
    line = next(line for line in merged.splitlines() if "is not exact" in line)
    assert line.startswith("--absorb-bias is not exact: 4 channels of 1 layer shifted; the outputs")
    assert line in validated
    assert "validation (reference): passed" in validated


def test_validate_without_the_flag_fails(pair: Pair) -> None:
    """By itself such a pair is not equivalent, and nobody is told that it was."""
    assert cli.main(["merge", *arguments(pair, "--absorb-bias", "-q")]) == cli.OK
    assert cli.main(["validate", *arguments(pair, "-q")]) == cli.FAILED


def test_as_json(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> Dict[str, Any]:
        assert cli.main([*words]) == cli.OK
        actual: Dict[str, Any] = json.loads(capsys.readouterr().out)
        return actual

    report = said("merge", *arguments(pair, "--absorb-bias", "--report", "-"))
    assert report["approximation"]["layers"] == ["r"]
    assert report["approximation"]["effects"][0]["output"] == "y"
    again = said("validate", *arguments(pair, "--absorb-bias", "--json"))
    assert again["approximation"] == report["approximation"]
    unmeasured = said("plan", str(pair[0]), str(pair[1]), "--absorb-bias", "--json")
    assert unmeasured["approximation"] == {
        "layers": ["r"],
        "channels": 4,
        "effects": None,
        "summary": "--absorb-bias is not exact: 4 channels of 1 layer shifted; how far the "
        "outputs move for it was not measured",
    }
    assert said("plan", str(pair[0]), str(pair[1]), "--json")["approximation"] is None


def test_without_validation_it_says_so(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["merge", *arguments(pair, "--absorb-bias", "--validate", "none")]) == cli.OK
    assert "how far the outputs move for it was not measured" in capsys.readouterr().out
