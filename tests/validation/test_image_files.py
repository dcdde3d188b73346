"""Image files and lists of labels: what is read, how they are matched, and what is refused."""

from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest

from caffe_merge.errors import FileError, UsageError
from caffe_merge.validation import image_files
from tests.required import required
from tests.validation.photos import empty, folder, save


@pytest.fixture(autouse=True)
def pillow() -> None:
    required("PIL", "images")


def test_pixels_are_bgr_unless_asked(tmp_path: Path) -> None:
    pixels = save(tmp_path / "x.bmp").astype(np.float32).transpose(2, 0, 1)
    path = str(tmp_path / "x.bmp")
    np.testing.assert_array_equal(image_files.load(path, (3, 9, 7)), pixels[::-1])
    np.testing.assert_array_equal(image_files.load(path, (3, 9, 7), rgb=True), pixels)
    assert image_files.load(path, (3, 4, 5)).shape == (3, 4, 5)
    gray = image_files.load(path, (1, 9, 7))[0]
    np.testing.assert_allclose(gray, np.tensordot([0.299, 0.587, 0.114], pixels, 1), atol=1)


def test_gray_pixels_of_16_bits_are_scaled(tmp_path: Path) -> None:
    from PIL import Image

    values = np.array([[0, 257, 300 * 128], [65535, 32768, 200 * 257]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    expected = np.array([[0, 1, 149], [255, 128, 200]])
    for channels in (1, 3):
        pixels = image_files.load(str(tmp_path / "deep.png"), (channels, 2, 3))
        np.testing.assert_array_equal(pixels, np.stack([expected] * channels))


def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    photo = Image.fromarray(pixels)
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    photo.save(tmp_path / "photo.png", exif=exif)
    upright = np.rot90(pixels, -1).transpose(2, 0, 1)
    loaded = image_files.load(str(tmp_path / "photo.png"), (3, 4, 3), rgb=True)
    np.testing.assert_array_equal(loaded, upright)


def test_folders_and_files(tmp_path: Path) -> None:
    folder(tmp_path)
    other = tmp_path / "other"
    with pytest.raises(FileError, match="other: No such file"):
        image_files.find([str(tmp_path / "photos"), str(other)])
    other.touch()  # whether it is an image is seen when it is read
    actual = image_files.find([str(tmp_path / "photos"), str(other)])
    assert [Path(path).name for path in actual] == ["0.png", "2.png", "1.png", "other"]
    with pytest.raises(UsageError, match=r"no \.jpg, .* in this folder"):
        image_files.find([str(empty(tmp_path))])


def test_what_is_hidden_in_a_folder_is_no_image(tmp_path: Path) -> None:
    """Archives from macOS have a file of attributes for each image, of the same ending."""
    folder(tmp_path)
    photos = tmp_path / "photos"
    expected = image_files.find([str(photos)])
    (photos / "._1.png").write_bytes(b"attributes")
    (photos / ".thumbnails").mkdir()
    (photos / ".thumbnails" / "1.png").write_bytes(b"")
    assert image_files.find([str(photos)]) == expected
    assert image_files.find([str(photos / "._1.png")])  # who names it means it


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("a b.png 3\n\nc/d e.jpg\t4\n")
    assert image_files.read_labels(str(path)) == {"a b.png": 3, "c/d e.jpg": 4}
    path.write_bytes(b"\xef\xbb\xbfa.png 3\r\n")  # as some editors save it
    assert image_files.read_labels(str(path)) == {"a.png": 3}
    path.write_text("a.png 3\nb.png\n")
    with pytest.raises(UsageError, match=r"labels\.txt:2: expected an image and the index"):
        image_files.read_labels(str(path))
    path.write_text("a.png 3\na.png 3\na.png 4\n")
    with pytest.raises(UsageError, match=r"labels\.txt:3: a\.png has class 3 above"):
        image_files.read_labels(str(path))
    with pytest.raises(UsageError, match=r"^labels: nope\.txt: No such file or directory$"):
        image_files.read_labels("nope.txt")
    with pytest.raises(UsageError, match="labels: no class is given for other"):
        image_files.labelled(["other.png"], {"a.png": 3})


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("{here}/two/a/1.png", "two/a/1.png"),  # as `find` lists them
        ("a/1.png", "1.png"),  # of a user who is in the folder a
        ("./two/a/1.png", "two/a/1.png"),
        ("1.png", "{here}/two/a/1.png"),
        ("../two/a/1.png", "../two/a/1.png"),
    ],
)
def test_a_label_is_of_an_image_however_either_is_called(
    name: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "two" / "a"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside if path == "1.png" else tmp_path)
    labels = {name.format(here=tmp_path): 6, "b/1.png": 7}
    assert image_files.labelled([path.format(here=tmp_path)], labels) == [6]


def test_the_longest_end_of_a_path_counts() -> None:
    assert image_files.labelled(["a/1.png", "b/1.png"], {"1.png": 3, "b/1.png": 4}) == [3, 4]


def test_one_label_is_not_of_two_images() -> None:
    with pytest.raises(UsageError, match=r"1\.png may be a/1\.png or b/1\.png: give more"):
        image_files.labelled(["a/1.png", "b/1.png"], {"1.png": 6})
    assert image_files.labelled(["a/1.png", "./a/1.png"], {"1.png": 6}) == [6, 6]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["x.png"], "no class is given for x.png: expected a line 'x.png 0', or with the end"),
        (["x.png", "a.png", "y.png"], "no class is given for x.png and 1 more: expected a line"),
    ],
)
def test_images_without_a_label(paths: List[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        image_files.labelled(paths, {"a.png": 3})


REFUSED: List[Tuple[bytes, str]] = [
    (
        b"image,class\n",
        r"labels.txt:1: expected an image .*, as 'cat.jpg 281', found 'image,",
    ),
    (b"a.png 1\n" + 99 * b"x", r"labels.txt:2: expected .* found 'x{40}'"),
    (b"\xff\xd8\xff", "labels.txt is not a text file"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_what_is_no_list_of_labels(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        image_files.read_labels(str(path))


def test_what_is_no_image_is_found_before_anything_runs(tmp_path: Path) -> None:
    from PIL import Image

    save(tmp_path / "right.png")
    Image.new("RGB", (5, 6)).save(tmp_path / "x.gif")
    (tmp_path / "notes.png").write_text("no image")
    image_files.check([str(tmp_path / "right.png")])
    for name in ("x.gif", "notes.png"):
        with pytest.raises(UsageError, match="is no JPEG, PNG or BMP image: convert it first"):
            image_files.check([str(tmp_path / "right.png"), str(tmp_path / name)])
