"""What nets are fed: deterministic, exciting, and the user's own where given."""

from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np
import pytest

from caffe_merge.errors import UsageError
from caffe_merge.net.pixels import Pixels
from caffe_merge.validation import inputs, validate
from tests.nets import prototxt, write_pair


def test_noise_is_the_same_on_every_run_and_different_for_every_name_and_seed() -> None:
    first = inputs.noise("data", (1, 3, 8, 8), 0)
    np.testing.assert_array_equal(first, inputs.noise("data", (1, 3, 8, 8), 0))
    assert not np.array_equal(first, inputs.noise("data2", (1, 3, 8, 8), 0))
    assert not np.array_equal(first, inputs.noise("data", (1, 3, 8, 8), 1))
    # The stream itself is pinned: reports on other machines must be comparable.
    np.testing.assert_allclose(first[0, 0, 0, :2], [19.259672, -49.755157], rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_a_pixels_range_and_are_smooth(channels: int) -> None:
    image = inputs.noise("data", (4, channels, 64, 64), 0)
    assert image.dtype == np.float32
    assert 50 < image.std() < 70
    neighbours = np.corrcoef(image[..., 1:].ravel(), image[..., :-1].ravel())[0, 1]
    assert neighbours > 0.4
    assert inputs.noise("data", (4, channels, 64, 64), 0, scale=2).std() == pytest.approx(
        image.std() / 30, rel=1e-4
    )


@pytest.mark.parametrize("shape", [(64, 100), (4, 8, 16, 16), (1, 3, 4, 20, 20), (5000,)])
def test_other_inputs_are_standard_normal(shape: Any) -> None:
    array = inputs.noise("data", shape, 0)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert 0.95 < array.std() < 1.05
    assert 9.5 < inputs.noise("data", shape, 0, scale=10).std() < 10.5


def test_sides_need_not_be_multiples_of_a_patch() -> None:
    assert inputs.noise("data", (1, 3, 9, 23), 0).shape == (1, 3, 9, 23)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_in_their_range(channels: int) -> None:
    array = inputs.pixels("data", (2, channels, 32, 40), 0)
    assert array.shape == (2, channels, 32, 40)
    assert array.dtype == np.float32
    assert (array.min(), array.max()) == (0, 255)
    assert 120 < array.mean() < 136
    assert 45 < array.std() < 65
    assert len({array[0, channel].tobytes() for channel in range(channels)}) == channels
    assert inputs.pixels("data", (2, channels, 32, 40), 0, scale=2).std() < 3


def test_pixels_for_the_input_that_takes_them() -> None:
    first = np.ones(3)
    declared = {"data": (1, 3, 64, 64), "more": (1, 3, 64, 64)}
    cheap = {"cost": lambda shapes: sum(shape[2] for shape in shapes.values()), "most": 65}
    net_inputs = inputs.make(declared, raw=Pixels("data", 100 * first, first, False), **cheap)
    assert [item.note for item in net_inputs] == [
        "raw pixels, smaller than declared, to save time", "smaller than declared, to save time",
    ]  # fmt: skip
    assert net_inputs[0].array.min() >= 0 > net_inputs[1].array.min()
    image = np.zeros((3, 64, 64))
    net_inputs = inputs.make(declared, raw=Pixels("data", image, first, False), **cheap)
    assert [item.array.shape for item in net_inputs] == list(declared.values())
    net_inputs = inputs.make(
        declared, raw=Pixels("data", image, first, False), files={"data": image[None]}
    )
    assert net_inputs[0].note == "raw pixels, given"


def test_shapes_from_the_command_line() -> None:
    assert inputs.parse_shapes(["data=1,3, 32,32", "im=2"]) == {"data": (1, 3, 32, 32), "im": (2,)}


@pytest.mark.parametrize("option", ["data", "=1,2", "data=", "data=1,x", "data=0,3", "data=1,-3"])
def test_a_bad_shape_is_a_usage_error(option: str) -> None:
    with pytest.raises(UsageError, match=r"input 'data': expected|input_shape: expected BLOB=1,3"):
        inputs.parse_shapes([option])


def test_files_are_read_as_float32(tmp_path: Path) -> None:
    np.save(tmp_path / "x=1.npy", np.arange(6).reshape(2, 3))
    loaded = inputs.load_files([f"data={tmp_path / 'x=1.npy'}"])
    assert loaded["data"].dtype == np.float32
    np.testing.assert_array_equal(loaded["data"], [[0, 1, 2], [3, 4, 5]])


def test_a_bad_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("not numpy")
    np.save(tmp_path / "nan.npy", [np.nan])
    np.save(tmp_path / "words.npy", np.array(["a"]))
    for name in ("missing.npy", "text.npy", "nan.npy", "words.npy"):
        with pytest.raises(UsageError, match=name) as caught:
            inputs.load_files([f"data={tmp_path / name}"])
        assert str(caught.value).count(name) == 1


def test_made_inputs_follow_the_declared_shapes_or_the_users() -> None:
    net_inputs = inputs.make({"a": (2, 3), "b": (4,)}, seed=5, shapes={"b": (7,)})
    assert [(i.name, i.array.shape, i.seed, i.note) for i in net_inputs] == [
        ("a", (2, 3), 5, ""),
        ("b", (7,), 5, ""),
    ]
    array = inputs.make({"a": (2, 3)}, files={"a": np.ones((9, 3), np.float64)})[0]
    assert (array.array.shape, array.array.dtype, array.seed, array.note) == (
        (9, 3),
        np.float32,
        None,
        "given",
    )


def test_an_input_that_the_net_does_not_have_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"no input 'x' \(its inputs: 'a'\)"):
        inputs.make({"a": (2, 3)}, shapes={"x": (1,)})
    with pytest.raises(UsageError, match="no input 'x'"):
        inputs.make({"a": (2, 3)}, files={"x": np.ones(1)})


@pytest.mark.parametrize("shape", [(), (1, 0, 3), (-1, 3)])
def test_an_input_without_a_usable_shape_asks_for_one(shape: Any) -> None:
    with pytest.raises(UsageError, match="give input_shape a=1,3,224,224"):
        inputs.make({"a": shape})


def area(shapes: Dict[str, Tuple[int, ...]]) -> float:
    return float(np.prod(shapes["a"]))


def test_a_net_that_costs_too_much_runs_smaller_and_says_so() -> None:
    declared = {"a": (2, 3, 300, 200)}
    assert inputs.shrink(declared, area, 1e9) == declared
    assert inputs.shrink(declared, area, 2e5) == {"a": (1, 3, 300, 200)}  # one sample first
    assert inputs.shrink(declared, area, 1e5) == {"a": (1, 3, 128, 96)}
    assert inputs.shrink(declared, area, 1) == {"a": (1, 3, 32, 32)}  # never under 32
    net_inputs = inputs.make(declared, cost=area, most=1e5)[0]
    assert (net_inputs.array.shape, net_inputs.note) == (
        (1, 3, 128, 96),
        "smaller than declared, to save time",
    )
    assert inputs.make(declared, cost=area, most=1e9)[0].note == ""


def test_sizes_that_the_layers_forbid_are_not_tried() -> None:
    def fixed_side(shapes: Dict[str, Tuple[int, ...]]) -> Optional[float]:
        return area(shapes) if shapes["a"][2:] == (300, 200) else None

    assert inputs.shrink({"a": (2, 3, 300, 200)}, fixed_side, 1) == {"a": (1, 3, 300, 200)}

    def fixed_batch(shapes: Dict[str, Tuple[int, ...]]) -> Optional[float]:
        return area(shapes) if shapes["a"][0] == 2 else None

    assert inputs.shrink({"a": (2, 3, 300, 200)}, fixed_batch, 1e5) == {"a": (2, 3, 128, 96)}
    assert inputs.shrink({"a": (2, 3, 300, 200)}, lambda shapes: None, 1) == {"a": (2, 3, 300, 200)}


def test_a_size_that_the_user_gave_is_never_made_smaller() -> None:
    net_inputs = inputs.make(
        {"a": (1, 3, 64, 64)}, shapes={"a": (2, 3, 300, 200)}, cost=area, most=1
    )
    assert net_inputs[0].array.shape == (2, 3, 300, 200)


def test_an_input_too_large_to_run_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match="a blob of 700000000 values is too large to run here"):
        inputs.make({"data": (1, 700_000_000)})


def test_an_array_without_the_axis_of_the_batch_gets_one() -> None:
    array = np.ones((3, 8, 6), np.float32)
    (net_inputs,) = inputs.make({"data": (2, 3, 4, 4)}, files={"data": array})
    assert net_inputs.array.shape == (1, 3, 8, 6)


@pytest.mark.parametrize("shape", [(2, 4, 8, 6), (8, 6, 3), (3,), (1, 1, 3, 8, 6)])
def test_an_array_of_a_wrong_shape_is_told(shape: Tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"input 'data': the array given has shape .*expected"):
        inputs.make({"data": (2, 3, 4, 4)}, files={"data": np.ones(shape, np.float32)})


def test_options_that_contradict_each_other_are_errors(tmp_path: Path) -> None:
    array = np.ones((1, 3, 8, 8), np.float32)
    shapes = {"data": (1, 3, 8, 8)}
    (entry,) = inputs.make(shapes, shapes=shapes, files={"data": array})
    assert entry.array.shape == (1, 3, 8, 8)
    with pytest.raises(UsageError, match=r"has shape \(1, 3, 8, 8\), but input_shape says \(2, 3,"):
        inputs.make(shapes, shapes={"data": (2, 3, 8, 8)}, files={"data": array})
    text = prototxt("data 1 3 8 8", "t: TanH data -> t")
    pair = write_pair(tmp_path, text, {"none": []})
    assert validate(pair, pair, files={"data": array + np.eye(8, dtype=np.float32)}).ok
    with pytest.raises(UsageError, match="input_scale has no effect: input gives the values of"):
        validate(pair, pair, files={"data": array}, scale=2)


def test_who_gives_the_values_is_not_told_to_scale_them(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, prototxt("data 1 3 8 8", "t: Log data -> t"), {"none": []})
    arrays = {"data": np.zeros((1, 3, 8, 8), np.float32)}
    assert "try other values by input;" in validate(pair, pair, files=arrays).reason + ";"
    assert "try other values by input_scale" in validate(pair, pair).reason
