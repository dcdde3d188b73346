"""Whole pairs on disk, through worker processes: right merges pass, wrong ones do not."""

import os
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest

from caffe_merge.errors import UsageError, ValidationError
from caffe_merge.layers.state import State
from caffe_merge.validation import forward, validate
from caffe_merge.validation.registry import ENGINES
from caffe_merge.validation.sessions import Session
from caffe_merge.validation.workers import Frame
from tests.nets import write_pair
from tests.real_caffe import RealCaffe
from tests.validation.nets import AFTER, BEFORE, INPUT, pairs, weights

PAIR = ("before", "after")
NO_WEIGHTS: Dict[str, List[np.ndarray]] = {"unused": []}  # an empty file would be no caffemodel


@pytest.fixture(params=["reference", "pycaffe"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pycaffe":
        python = request.getfixturevalue("real_caffe").python
        monkeypatch.setenv("CAFFE_MERGE_CAFFE_PYTHON", python)
    return str(request.param)


def test_a_right_merge_passes(tmp_path: Path, engine: str) -> None:
    seen = []
    comparison = validate(*pairs(tmp_path), engine, progress=lambda *state: seen.append(state))
    assert comparison.ok, comparison.summary()
    assert (comparison.status, comparison.reason, comparison.engine) == ("passed", "", engine)
    assert comparison.limit == {"reference": 1e-5, "pycaffe": 1e-4}[engine]
    assert sorted(b.name for b in comparison.blobs if not b.reader) == [
        "fc",
        "pool",
        "prob",
        "scale",
    ]
    inner = [("scale", "relu")] if engine == "reference" else []  # Caffe shows what names end with
    assert [(blob.name, blob.reader) for blob in comparison.blobs if blob.reader] == inner
    assert [(entry.layer, entry.blob != "") for entry in comparison.seen] == [("conv", True)]
    assert all(0 <= blob.max_error < 1e-5 for blob in comparison.blobs)
    assert comparison.worst[1] == max(blob.max_error for blob in comparison.blobs)
    assert comparison.worst[1] > 0  # the two nets are not one net
    assert [blob.argmax_agreement for blob in comparison.blobs if blob.name == "prob"] == [1.0]
    assert not any(blob.remark for blob in comparison.blobs)
    assert (comparison.only_before, comparison.only_after) == (2, 0)
    assert comparison.unjudged == ()
    assert comparison.inputs[0].shape == (2, 3, 8, 8)
    assert min(comparison.seconds) > 0
    turns = 6 * len(comparison.blobs)  # a small net runs on six sets of values
    assert [(done, total) for done, total, _ in seen] == [(n + 1, turns) for n in range(turns)]


def test_one_weight_wrong_by_a_thousandth_fails_and_names_the_first_blob(
    tmp_path: Path, engine: str
) -> None:
    before, _ = pairs(tmp_path)
    _, blobs = weights()
    blobs["fc"][0] = blobs["fc"][0].copy()
    blobs["fc"][0][2, 3] += 1e-3
    comparison = validate(before, write_pair(tmp_path, AFTER, blobs, "wrong"), engine)
    assert comparison.status == "failed"
    assert comparison.first_beyond[0] == "fc"
    assert re.match(
        r"blob 'fc' differs by .* of its largest value, limit (0.0001|1e-05)", comparison.reason
    )
    beyond = {blob.name for blob in comparison.blobs if blob.max_error > comparison.limit}
    # What follows goes on with the right values, where an engine can do that.
    assert beyond == ({"fc"} if engine == "reference" else {"fc", "prob"})


def test_a_limit_of_ones_own(tmp_path: Path) -> None:
    before, after = pairs(tmp_path)
    assert validate(before, after, limit=1e-12).status == "failed"


@pytest.mark.parametrize("limit", [1e-2, 0.3])
def test_a_wide_limit_leaves_nothing_unseen(limit: float, tmp_path: Path, engine: str) -> None:
    """What a layer is made wrong by to see it is more than the limit."""
    assert validate(*pairs(tmp_path), engine, limit=limit).status == "passed"


def test_the_same_input_gives_the_same_comparison(tmp_path: Path, engine: str) -> None:
    comparison = [validate(*pairs(tmp_path), engine, seed=seed).blobs for seed in (1, 1, 2)]
    assert comparison[0] == comparison[1] != comparison[2]


def test_shapes_and_arrays_of_the_users(tmp_path: Path, engine: str) -> None:
    array = np.random.default_rng(0).standard_normal((3, 3, 8, 8))
    comparison = validate(*pairs(tmp_path), engine, files={"data": array})
    assert comparison.ok
    assert comparison.inputs[0].note == "given"
    assert {blob.name: blob.shape for blob in comparison.blobs}["prob"] == (3, 5)
    assert validate(*pairs(tmp_path), engine, shapes={"data": (1, 3, 8, 8)}).ok


def test_a_shape_that_the_net_cannot_take_is_one_line_with_the_file(
    tmp_path: Path, engine: str
) -> None:
    with pytest.raises(ValidationError, match=r"before\.prototxt: ") as caught:
        validate(*pairs(tmp_path), engine, shapes={"data": (1, 3, 40, 40)})
    assert "\n" not in str(caught.value)
    with pytest.raises(ValidationError, match=r"before\.prototxt: ") as caught:
        validate(*pairs(tmp_path), engine, files={"data": np.ones((1, 3, 40, 40))})
    assert str(caught.value).endswith("; the array given for 'data' has shape (1, 3, 40, 40)")


def test_a_missing_output_fails(tmp_path: Path, engine: str) -> None:
    before, _ = pairs(tmp_path)
    after = write_pair(tmp_path, AFTER.replace('top: "prob"', 'top: "p"'), weights()[1], "after")
    comparison = validate(before, after, engine)
    assert (comparison.status, comparison.reason) == (
        "failed",
        "the merged net has no output 'prob': it has 'p'",
    )
    assert (comparison.only_before, comparison.only_after) == (3, 1)


def test_a_missing_input_is_an_error(tmp_path: Path, engine: str) -> None:
    before, _ = pairs(tmp_path)
    after = write_pair(tmp_path, AFTER.replace('"data"', '"image"'), weights()[1], "after")
    with pytest.raises(ValidationError, match="inputs differ: 'data' before, 'image' after"):
        validate(before, after, engine)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_value_that_is_not_finite_fails(tmp_path: Path, engine: str, side: str) -> None:
    power = 'layer { name: "%s" type: "Power" bottom: "data" top: "p" power_param { power: %s } }'
    broken = PAIR if side == "before" else (side,)
    texts = {name: INPUT + power % ("p", "-0.5" if name in broken else 2) for name in PAIR}
    comparison = validate(
        *(write_pair(tmp_path, texts[name], NO_WEIGHTS, name) for name in PAIR), engine
    )
    assert comparison.status == ("inconclusive" if side == "before" else "failed")
    assert not comparison.ok
    assert f"finite {side} the merge" in comparison.reason


def test_a_net_that_computes_nothing_is_inconclusive(tmp_path: Path, engine: str) -> None:
    power = 'layer { name: "p" type: "Power" bottom: "data" top: "p" power_param { scale: 0 } }'
    pair = write_pair(tmp_path, INPUT + power, NO_WEIGHTS)
    comparison = validate(pair, pair, engine)
    assert comparison.status == "inconclusive"
    assert not comparison.ok
    assert "do not excite" in comparison.reason


def test_an_input_is_compared_only_where_a_layer_is_in_place_on_it(
    tmp_path: Path, engine: str
) -> None:
    power = 'layer { name: "p" type: "Power" bottom: "data" top: "%s" power_param { scale: %s } }'
    in_place, wrong, apart = (
        write_pair(tmp_path, INPUT + power % what, NO_WEIGHTS, f"{index}")
        for index, what in enumerate([("data", 2), ("data", 3), ("p", 2)])
    )
    assert [blob.name for blob in validate(in_place, in_place, engine).blobs] == ["data"]
    assert validate(in_place, wrong, engine).first_beyond[0] == "data"
    assert [blob.name for blob in validate(apart, apart, engine).blobs] == ["p"]


def test_one_dull_blob_is_a_remark(tmp_path: Path, engine: str) -> None:
    dull = 'layer { name: "p" type: "Power" bottom: "fc" top: "p" power_param { scale: 0 } }'
    pair = write_pair(tmp_path, BEFORE + dull, weights()[0])
    comparison = validate(pair, pair, engine)
    assert comparison.ok
    assert [(blob.name, blob.remark) for blob in comparison.blobs if blob.remark] == [
        ("p", "all zero")
    ]
    assert "'p' is all zero" in comparison.summary()


def test_what_the_reference_does_not_know_is_told_and_the_rest_judged(tmp_path: Path) -> None:
    odd = 'layer { name: "odd" type: "FromAFork" bottom: "fc" top: "odd" }'
    before = write_pair(tmp_path, BEFORE + odd, weights()[0], "before")
    after = write_pair(tmp_path, AFTER + odd, weights()[1], "after")
    comparison = validate(before, after)
    assert comparison.ok
    assert comparison.black_boxes == (("odd", "FromAFork"),)
    assert "1 black box: 'odd' (FromAFork)" in comparison.summary()
    only = write_pair(tmp_path, INPUT + odd.replace("fc", "data"), NO_WEIGHTS)
    comparison = validate(only, only)
    assert comparison.status == "inconclusive"
    assert comparison.reason.startswith("no blob could be compared")


def test_a_training_net_is_judged_once_its_data_have_a_shape(tmp_path: Path) -> None:
    data = 'layer { name: "data" type: "Data" top: "data" top: "label" }'
    before, after = (
        write_pair(tmp_path, text.replace(INPUT, data), blobs, name)
        for name, text, blobs in zip(PAIR, (BEFORE, AFTER), weights())
    )
    comparison = validate(before, after)
    assert comparison.status == "inconclusive"
    assert "layer 'data' (Data)" in comparison.reason
    comparison = validate(before, after, shapes={"data": (2, 3, 8, 8)})
    assert comparison.ok
    assert len(comparison.blobs) == 5
    array = np.ones((2, 3, 8, 8))
    assert list(forward(before, {"data": array})) == ["prob"]


def test_a_net_that_caffe_aborts_on_is_one_line(tmp_path: Path, engine: str) -> None:
    before, _ = pairs(tmp_path)
    bad = AFTER.replace('bottom: "pool"', 'bottom: "nix"')
    with pytest.raises(ValidationError, match=r"after\.prototxt: .*nix") as caught:
        validate(before, write_pair(tmp_path, bad, weights()[1], "after"), engine)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_read_are_one_line_that_names_them_once(tmp_path: Path) -> None:
    before, (text, bad) = pairs(tmp_path)
    bad.write_bytes(b"<html>")
    with pytest.raises(ValidationError) as caught:
        validate(before, (text, bad))
    assert str(caught.value).startswith(f"{bad}: ")
    assert "prototxt" not in str(caught.value)


def test_a_net_of_too_many_multiply_adds_runs_smaller_and_says_so(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = INPUT.replace("dim: 8 dim: 8", "dim: 128 dim: 128") + (
        'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"'
        " convolution_param { num_output: 4 kernel_size: 3 } }"
    )
    pair = write_pair(tmp_path, text, {"conv": weights()[1]["conv"]})
    monkeypatch.setitem(
        ENGINES, engine, ENGINES[engine]._replace(most=126 * 126 * 4 * 27)
    )  # one sample, whole
    comparison = validate(pair, pair, engine)
    assert comparison.inputs[0].shape == (1, 3, 128, 128)
    assert "data': 1x3x128x128, smaller than declared" in comparison.summary()
    monkeypatch.setitem(ENGINES, engine, ENGINES[engine]._replace(most=1e6))
    assert validate(pair, pair, engine).inputs[0].shape == (1, 3, 64, 64)


def test_the_scale_of_the_noise(tmp_path: Path) -> None:
    power = 'layer { name: "p" type: "Power" bottom: "data" top: "p" power_param { power: 2 } }'
    pair = write_pair(tmp_path, INPUT + power, NO_WEIGHTS)
    assert validate(pair, pair).ok
    assert validate(pair, pair, scale=0).status == "inconclusive"


def test_blobs_far_larger_than_a_pipe_in_another_order_are_no_deadlock(
    tmp_path: Path, engine: str
) -> None:
    data = INPUT.replace("dim: 8 dim: 8", "dim: 200 dim: 200")
    layers = [
        f'layer {{ name: "{name}" type: "AbsVal" bottom: "data" top: "{name}" }}\n'
        for name in "abcdef"
    ]
    before = write_pair(tmp_path, data + "".join(layers), NO_WEIGHTS, "before")
    after = write_pair(tmp_path, data + "".join(reversed(layers)), NO_WEIGHTS, "after")
    comparison = validate(before, after, engine, time_limit=60)
    assert comparison.ok
    assert [blob.name for blob in comparison.blobs] == list("abcdef")


def test_blobs_that_never_come_are_not_taken_for_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_caffe: RealCaffe
) -> None:
    """From one net, then from the other."""
    real = Session.forward
    for side, message in (
        ("before", "only 3 of 4 blobs came"),
        ("after", "blob 'prob' never came"),
    ):

        def cut(
            session: Session, *arguments: Any, side: str = side, **more: Any
        ) -> Iterator[Frame]:
            for frame in real(session, *arguments, **more):
                if frame.header["name"] != "prob" or side not in session.path:
                    yield frame

        monkeypatch.setattr(Session, "forward", cut)
        with pytest.raises(ValidationError, match=message):
            validate(*pairs(tmp_path), "pycaffe", caffe_python=real_caffe.python)


def test_a_time_limit_names_the_file(tmp_path: Path) -> None:
    before, after = pairs(tmp_path)
    with pytest.raises(ValidationError, match=r"before\.prototxt: .* within 0\.01 s"):
        validate(before, after, time_limit=0.01)


def test_forward_gives_outputs_or_all_blobs_and_the_engines_agree(
    tmp_path: Path, real_caffe: RealCaffe
) -> None:
    before, _ = pairs(tmp_path)
    data = {"data": 60 * np.random.default_rng(0).standard_normal((2, 3, 8, 8))}
    ours = forward(before, data, outputs_only=False)
    theirs = forward(before, data, "pycaffe", outputs_only=False, caffe_python=real_caffe.python)
    assert sorted(ours) == sorted(theirs) == ["bn", "conv", "data", "fc", "pool", "prob", "scale"]
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, atol=1e-5 * abs(array).max())
    assert list(forward(before, data)) == ["prob"]
    for wrong in ({}, {"image": data["data"]}):
        with pytest.raises(UsageError, match=r"inputs given are .*, the net's are 'data'"):
            forward(before, wrong)
    np.testing.assert_allclose(real_caffe.forward_pair(*before, data)["fc"], theirs["fc"])


def test_bad_arguments_are_usage_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UsageError, match="no engine is called 'tensorrt'; there are reference, pycaffe"
    ):
        validate(*pairs(tmp_path), "tensorrt")
    with pytest.raises(UsageError, match="time_limit is 0: expected a finite number above 0"):
        validate(*pairs(tmp_path), time_limit=0)
    with pytest.raises(UsageError, match="scale is -1: expected a finite number, 0 or more"):
        validate(*pairs(tmp_path), scale=-1)
    with pytest.raises(UsageError, match="limit is nan: expected a finite number above 0"):
        validate(*pairs(tmp_path), limit=float("nan"))
    with pytest.raises(UsageError, match="no input 'image'"):
        validate(*pairs(tmp_path), shapes={"image": (1, 3, 8, 8)})
    monkeypatch.delenv("CAFFE_MERGE_CAFFE_PYTHON", raising=False)
    monkeypatch.setattr("caffe_merge.validation.workers.find_caffe_python", lambda: None)
    with pytest.raises(UsageError, match="no interpreter with Caffe"):
        validate(*pairs(tmp_path), "pycaffe")


def test_the_temporary_inputs_are_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert validate(*pairs(tmp_path)).ok
    assert not [name for name in os.listdir(tmp_path) if name.startswith("caffe_merge_")]


STAGED = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "one" type: "Power" bottom: "data" top: "y" power_param { scale: 2 }
        include { stage: "fast" } }
layer { name: "two" type: "Power" bottom: "data" top: "y" power_param { scale: 3 }
        include { not_stage: "fast" } }
"""


def test_the_net_of_a_stage_is_the_one_that_is_run(engine: str, tmp_path: Path) -> None:
    staged = write_pair(tmp_path, STAGED, NO_WEIGHTS, "staged")
    plain = write_pair(tmp_path, STAGED.replace("scale: 3", "scale: 2"), NO_WEIGHTS, "plain")
    assert not validate(staged, plain, engine).ok
    assert validate(staged, plain, engine, state=State(stages=["fast"])).ok


def test_a_blob_too_large_to_run_is_refused(tmp_path: Path) -> None:
    text = INPUT_OF_ONE + 'layer { name: "t" type: "Tile" bottom: "data" top: "y" tile_param { '
    pair = write_pair(tmp_path, text + "tiles: 1000000000 } }", NO_WEIGHTS)
    with pytest.raises(UsageError, match="a blob of 1000000000 values is too large"):
        validate(pair, pair)


INPUT_OF_ONE = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 } } }\n'
)


SHARED = """
layer { name: "c" type: "Power" bottom: "data" top: "c" power_param { scale: -2 } }
layer { name: "d" type: "Dropout" bottom: "c" top: "d" }
layer { name: "f" type: "Flatten" bottom: "c" top: "f" }
layer { name: "g" type: "Reshape" bottom: "c" top: "g"
  reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "r" type: "ReLU" bottom: "f" top: "f" }
layer { name: "s" type: "Sigmoid" bottom: "d" top: "s" }
layer { name: "t" type: "TanH" bottom: "f" top: "t" }
"""


def test_an_in_place_write_shows_under_every_name_of_its_memory(
    tmp_path: Path, real_caffe: RealCaffe
) -> None:
    """Flatten and Reshape share their bottom's memory in Caffe, Dropout copies it."""
    pair = write_pair(tmp_path, INPUT + SHARED, NO_WEIGHTS)
    data = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    theirs = real_caffe.forward_pair(*pair, {"data": data})
    assert theirs["g"].min() == 0  # the ReLU on f wrote it
    ours = forward(pair, {"data": data}, outputs_only=False)
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    assert ours["c"].min() == 0 > ours["d"].min()
