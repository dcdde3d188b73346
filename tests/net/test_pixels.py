"""What the user says of pixels: numbers and files read, and fitted to an input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_merge.errors import FileError, UsageError
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.net.pixels import Pixels, pixel_options

IMAGE = np.random.default_rng(0).uniform(90, 140, (3, 4, 5))
INPUT = {"data": (1, 3, 4, 5)}


def fitted(mean: Any = None, scale: Any = None, swap_rgb: Any = False) -> Pixels:
    pixels = pixel_options(mean, scale, swap_rgb)
    assert pixels is not None
    return pixels.resolve(INPUT)


def binaryproto(path: Path, values: np.ndarray, legacy: bool) -> str:
    """As compute_image_mean writes it, and as newer tools do."""
    blob = NetParameter().layer.add().blobs.add()
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = 1, *values.shape
    else:
        blob.shape.dim.extend(values.shape)
    blob.data.extend(values.ravel().tolist())
    path.write_bytes(blob.SerializeToString())
    return str(path)


def test_nothing_said() -> None:
    assert pixel_options() is None


@pytest.mark.parametrize("value", ["104,117,123", "data=104,117,123", " 104, 117 ,1.23e2",
                                   [104, 117, 123], np.array([104.0, 117, 123])])  # fmt: skip
def test_numbers(value: Any) -> None:
    pixels = fitted(value)
    assert (pixels.name, pixels.mean.tolist(), pixels.scale.tolist()) == (
        "data",
        [104, 117, 123],
        [1] * 3,
    )
    assert not pixels.is_image


def test_one_number_is_for_all_channels() -> None:
    pixels = fitted("127.5", "0.0078125")
    assert (pixels.mean.tolist(), pixels.scale.tolist()) == ([127.5] * 3, [0.0078125] * 3)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 4, 5), (3, 4, 5)])
def test_npy(tmp_path: Path, shape: Any) -> None:
    values = IMAGE.reshape(shape) if np.prod(shape) == 60 else IMAGE[:, 0, 0].reshape(shape)
    np.save(tmp_path / "mean.npy", values)
    pixels = fitted(f"data={tmp_path / 'mean.npy'}")
    assert pixels.is_image == (np.prod(shape) == 60)
    assert np.array_equal(pixels.mean.ravel(), values.ravel())


@pytest.mark.parametrize("legacy", [True, False])
def test_binaryproto(tmp_path: Path, legacy: bool) -> None:
    path = "data=" + binaryproto(tmp_path / "mean=1.binaryproto", IMAGE, legacy)
    assert np.array_equal(fitted(path).mean, IMAGE.astype(np.float32))


def test_an_image_that_is_constant_per_channel_is_none() -> None:
    image = np.broadcast_to(np.reshape([1.0, 2, 3], (3, 1, 1)), (3, 256, 256))
    assert fitted(image).mean.tolist() == [1, 2, 3]


def test_an_image_of_another_size_is_told_with_its_means() -> None:
    image = np.zeros((3, 8, 8)) + np.reshape([104, 117.25, 123], (3, 1, 1))
    image[:, 0, 0] += 64
    with pytest.raises(UsageError, match=r"\(3, 8, 8\) does not .*: mean 105,118\.25,124$"):
        fitted(image)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no .npy and no mean.binaryproto: it is empty"),
        (b"\x93NUMPY\x01", "is no .npy"),
        (b"\x93NUMPY\x01\0\x08\0{'shape(", "is no .npy"),
        (b"\xff" * 40, "is no .npy and no mean.binaryproto"),
        (b"some text", "is no .npy and no mean.binaryproto"),
    ],
)
def test_a_file_that_is_no_mean(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mean").write_bytes(content)
    with pytest.raises(UsageError, match=message) as error:
        pixel_options(str(tmp_path / "mean"))
    assert len(str(error.value).splitlines()) == 1


def test_a_file_of_objects_is_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"mean\.npy is no \.npy"):
        pixel_options(str(tmp_path / "mean.npy"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"expected numbers or a file, found .*: No such file"):
        pixel_options(str(tmp_path / "mean.npy"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "1,two"}, "scale: expected numbers, found '1,two'"),
        ({"scale": "nan"}, "scale: expected finite values"),
        ({"mean": "1,inf,2"}, "mean: expected finite values"),
        ({"mean": []}, "mean: expected finite values"),
        ({"scale": "1,0,1"}, "scale: expected values other than 0"),
        ({"mean": "a=1", "scale": "b=1"}, r"name several inputs: \['a', 'b'\]"),
        ({"mean": "a=1", "swap_rgb": "b"}, r"name several inputs: \['a', 'b'\]"),
    ],
)
def test_what_makes_no_sense(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pixel_options(**options)


def test_of_pixels() -> None:
    """Channels change places first: the mean is in the order in which the net reads them."""
    raw = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)
    pixels = fitted([1, 2, 3], [2, 4, 8], True).of(raw)
    assert pixels.dtype == np.float32
    for channel, (mean, scale) in enumerate(((1, 2), (2, 4), (3, 8))):
        assert np.array_equal(pixels[0, channel], (raw[0, 2 - channel] - mean) * scale)
    assert np.allclose(fitted(IMAGE).of(raw), raw - IMAGE)
    with pytest.raises(UsageError, match="its mean does not fit the shape"):
        fitted(IMAGE).of(raw[:, :, :3])


def test_a_header_that_promises_more_than_the_file_has(tmp_path: Path) -> None:
    """It is not believed: nothing is allocated for it."""
    path = tmp_path / "huge.npy"
    np.save(path, np.zeros((3, 10, 10)))
    path.write_bytes(path.read_bytes().replace(b"(3, 10, 10), }", b"(3,99999,999)}")[:200])
    with pytest.raises(UsageError, match=r"is no \.npy and no mean"):
        pixel_options(str(path))


def test_numbers_that_are_not_real(tmp_path: Path) -> None:
    """Their other half would be lost."""
    np.save(tmp_path / "c.npy", np.ones(3, np.complex128))
    with pytest.raises(UsageError, match="expected real numbers, found complex128"):
        pixel_options(str(tmp_path / "c.npy"))


@pytest.mark.parametrize("value", ["104,117,x", "1,,2", ""])
def test_numbers_with_a_slip(value: str) -> None:
    """What has commas is no file's name."""
    with pytest.raises(UsageError, match=f"mean: expected numbers, found '{value}'"):
        pixel_options(value)
