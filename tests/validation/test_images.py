"""Both nets on the user's own images: what is fed, what is told, and what is refused."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import main, merge_bn
from caffe_merge.errors import FileError, UsageError
from caffe_merge.validation import forward, images, validate
from caffe_merge.validation.images import ImageOptions
from tests.nets import Pair, prototxt, write_pair
from tests.required import required
from tests.validation.nets import AFTER, pairs, weights


@pytest.fixture(autouse=True)
def pillow() -> None:
    required("PIL", "images")


def save(path: Path, seed: int = 0, size: Any = (9, 7)) -> np.ndarray:
    """Write an image of (rows, columns); its pixels, RGB."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def folder(path: Path, number: int = 3) -> List[str]:
    (path / "photos" / "more").mkdir(parents=True)
    names = [f"photos/{'more/' if n == 1 else ''}{n}.png" for n in range(number)]
    for seed, name in enumerate(names):
        save(path / name, seed)
    (path / "photos" / "notes.txt").write_text("no image")
    return names


def test_pixels_are_bgr_unless_asked(tmp_path: Path) -> None:
    pixels = save(tmp_path / "x.bmp").astype(np.float32).transpose(2, 0, 1)
    path = str(tmp_path / "x.bmp")
    np.testing.assert_array_equal(images.load(path, (3, 9, 7)), pixels[::-1])
    np.testing.assert_array_equal(images.load(path, (3, 9, 7), rgb=True), pixels)
    assert images.load(path, (3, 4, 5)).shape == (3, 4, 5)
    gray = images.load(path, (1, 9, 7))[0]
    np.testing.assert_allclose(gray, np.tensordot([0.299, 0.587, 0.114], pixels, 1), atol=1)


def test_gray_pixels_of_16_bits_are_scaled(tmp_path: Path) -> None:
    from PIL import Image

    values = np.array([[0, 257, 300 * 128], [65535, 32768, 200 * 257]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    expected = np.array([[0, 1, 149], [255, 128, 200]])
    for channels in (1, 3):
        pixels = images.load(str(tmp_path / "deep.png"), (channels, 2, 3))
        np.testing.assert_array_equal(pixels, np.stack([expected] * channels))


def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    photo = Image.fromarray(pixels)
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    photo.save(tmp_path / "photo.png", exif=exif)
    upright = np.rot90(pixels, -1).transpose(2, 0, 1)
    loaded = images.load(str(tmp_path / "photo.png"), (3, 4, 3), rgb=True)
    np.testing.assert_array_equal(loaded, upright)


def test_folders_and_files(tmp_path: Path) -> None:
    folder(tmp_path)
    other = tmp_path / "other"
    with pytest.raises(FileError, match="other: No such file"):
        images.find([str(tmp_path / "photos"), str(other)])
    other.touch()  # whether it is an image is seen when it is read
    actual = images.find([str(tmp_path / "photos"), str(other)])
    assert [Path(path).name for path in actual] == ["0.png", "2.png", "1.png", "other"]
    with pytest.raises(UsageError, match=r"no \.jpg, .* in this folder"):
        images.find([str(empty(tmp_path))])


def test_what_is_hidden_in_a_folder_is_no_image(tmp_path: Path) -> None:
    """Archives from macOS have a file of attributes for each image, of the same ending."""
    folder(tmp_path)
    photos = tmp_path / "photos"
    expected = images.find([str(photos)])
    (photos / "._1.png").write_bytes(b"attributes")
    (photos / ".thumbnails").mkdir()
    (photos / ".thumbnails" / "1.png").write_bytes(b"")
    assert images.find([str(photos)]) == expected
    assert images.find([str(photos / "._1.png")])  # who names it means it


def empty(path: Path) -> Path:
    (path / "empty").mkdir()
    return path / "empty"


def on_images(tmp_path: Path, after: Pair, engine: str = "reference") -> Any:
    before, _ = pairs(tmp_path)
    names = folder(tmp_path)
    labels = {name: number for number, name in enumerate(names)}
    paths = images.find([str(tmp_path / "photos")])
    seen: List[int] = []
    options = ImageOptions(
        paths,
        (100.0, 110.0, 120.0),
        0.5,
        labels=labels,
        progress=lambda done, *_: seen.append(done),
    )
    comparison = validate(before, after, engine, images=options)
    assert seen == [1, 2, 3]
    return comparison


def test_what_both_nets_give_out(tmp_path: Path) -> None:
    before, after = pairs(tmp_path)
    comparison = on_images(tmp_path, after)
    assert comparison.ok, comparison.summary()
    (output,) = comparison.images.outputs
    assert (comparison.images.count, comparison.images.shape, output.name) == (
        3,
        (2, 3, 8, 8),
        "prob",
    )
    assert output.max_error < 1e-5
    assert output.cosine > 0.999999
    assert (output.classes.top1_differ, output.classes.top5_differ) == (0, None)
    for number, row in enumerate(output.classes.rows):
        pixels = images.load(row.image, (3, 8, 8))
        mean = np.array([100, 110, 120], np.float32).reshape(3, 1, 1)
        data = np.stack([(pixels - mean) * 0.5] * 2)
        prob = forward(before, {"data": data})["prob"][0]
        assert row.before == row.after == prob.argmax(), number
        first, second = sorted(prob, reverse=True)[:2]
        assert row.margin == pytest.approx(first - second, abs=1e-6)
    right = [Path(r.image).stem == str(r.before) for r in output.classes.rows]
    assert output.classes.accuracy == (np.mean(right), np.mean(right))
    assert json.loads(json.dumps(comparison.to_json()))["images"]["outputs"][0]["name"] == "prob"
    assert "the first class is the same for 3 of 3" in comparison.summary()


def test_a_difference_on_images_fails(tmp_path: Path) -> None:
    blobs = weights()[1]
    blobs["fc"][1] = blobs["fc"][1][::-1] * 3
    comparison = on_images(tmp_path, write_pair(tmp_path, AFTER, blobs, "wrong"))
    assert comparison.status == "failed"
    (output,) = comparison.images.outputs
    assert comparison.images.problem.startswith(f"image {output.image}: output 'prob' differs by ")


def flags(pair: Pair, *more: str) -> List[str]:
    return [*map(str, pair), "--force", *more]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.png", b"\x89PNG\r\n\x1a\n broken"),
        ("text.jpg", b"hello"),
        ("empty.bmp", b""),
        ("missing.png", None),
        ("bomb.png", "bomb"),
    ],
)
def test_a_bad_image_is_one_line(
    tmp_path: Path, name: str, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = pairs(tmp_path)[0]
    path = tmp_path / name
    if content == "bomb":
        header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
        check = zlib.crc32(b"IHDR" + header)
        chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", check)
        content = b"\x89PNG\r\n\x1a\n" + chunk
    if content is not None:
        path.write_bytes(content)
    assert merge_bn(flags(pair, "--images", str(path))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert not list(tmp_path.glob("*_merged*"))


def test_what_the_text_says_of_pixels(tmp_path: Path) -> None:
    text = prototxt("data 1 3 6 5", "out: ReLU data -> out")
    text = text.replace(
        'type: "ReLU"', 'type: "ReLU" transform_param { scale: 0.5 mean_value: 7 crop_size: 6 }'
    )
    pair = write_pair(tmp_path, text, {"x": []})
    save(tmp_path / "x.png")
    arguments = ["validate", *map(str, pair), "--output-model", str(pair[0])]
    arguments += ["--output-weights", str(pair[1]), "--images", str(tmp_path / "x.png"), "--json"]
    for more, expected in (((), ([7.0], 0.5)), (("--image-mean", "1,2,3"), ([1.0, 2.0, 3.0], 0.5))):
        shown: Dict[str, Any] = run(arguments + list(more))
        assert (shown["images"]["mean"], shown["images"]["scale"]) == expected


def run(arguments: List[str]) -> Dict[str, Any]:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(arguments)
    shown: Dict[str, Any] = json.loads(out.getvalue())
    return shown


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("a b.png 3\n\nc/d e.jpg\t4\n")
    assert images.read_labels(str(path)) == {"a b.png": 3, "c/d e.jpg": 4}
    path.write_bytes(b"\xef\xbb\xbfa.png 3\r\n")  # as some editors save it
    assert images.read_labels(str(path)) == {"a.png": 3}
    path.write_text("a.png 3\nb.png\n")
    with pytest.raises(UsageError, match=r"labels\.txt:2: expected an image and the index"):
        images.read_labels(str(path))
    path.write_text("a.png 3\na.png 3\na.png 4\n")
    with pytest.raises(UsageError, match=r"labels\.txt:3: a\.png has class 3 above"):
        images.read_labels(str(path))
    with pytest.raises(UsageError, match=r"^labels: nope\.txt: No such file or directory$"):
        images.read_labels("nope.txt")
    with pytest.raises(UsageError, match="labels: no class is given for other"):
        images.labelled(["other.png"], {"a.png": 3})


def two_nets(tmp_path: Path, text: str, factors: Any = (1.0, 1.0)) -> List[Pair]:
    """The net before and after: its Scale ``s`` multiplies by these."""
    return [
        write_pair(tmp_path, text, {"s": [np.full(3, factor)]}, name)
        for name, factor in zip(("old", "new"), factors)
    ]


# Finite on noise, and -inf where a pixel is 0.
LOG = prototxt(
    "data 1 3 6 5",
    "s: Scale data -> s",
    "p: Power s -> p { power_param { power: 2 } }",
    "log: Log p -> log",
)


@pytest.mark.parametrize(
    ("allow", "after", "status"),
    [(False, 1.0, "inconclusive"), (True, 1.0, "passed"), (True, 9.0, "failed")],
)
def test_what_was_not_finite_before_is_no_fault_of_the_merge(
    tmp_path: Path, allow: bool, after: float, status: str
) -> None:
    from PIL import Image

    Image.new("RGB", (5, 6)).save(tmp_path / "black.png")
    Image.new("RGB", (5, 6), (9, 20, 30)).save(tmp_path / "gray.png")
    options = ImageOptions([str(tmp_path / "black.png"), str(tmp_path / "gray.png")])
    before, new = two_nets(tmp_path, LOG, (1.0, after))
    comparison = validate(before, new, images=options, allow_unseen=allow)
    assert comparison.status == status
    (output,) = comparison.images.outputs
    assert [Path(path).name for path in output.not_finite] == ["black.png"]
    assert Path(output.image).name == "gray.png"
    if status == "inconclusive":
        assert "black.png: output 'log' was not finite before the merge; " in comparison.reason
    assert json.loads(json.dumps(comparison.to_json(), allow_nan=False))["images"]


def test_an_output_of_a_whole_batch_names_the_images_of_that_batch(tmp_path: Path) -> None:
    pieces = list(images._pieces((np.ones(3), np.ones(3)), 2, ["a", "b"]))
    pieces += images._pieces((np.ones(3), np.full(3, 1.5)), 2, ["c", "d"])
    pieces += images._pieces((np.ones(3), np.full(3, 1.25)), 2, ["e"])
    output = images._output("sum", pieces, list("abcde"), None)
    assert (output.image, output.max_error, output.classes) == ("c to d", 0.5, None)


@pytest.mark.parametrize(
    ("last", "message"),
    [("other.png 0", "no class is given for"), ("2.png 5", "class 5 of 5 classes, counted from 0")],
)
def test_labels_are_checked_before_all_images_have_run(
    tmp_path: Path, last: str, message: str
) -> None:
    pair = pairs(tmp_path)[0]
    folder(tmp_path)
    labels = tmp_path / "labels.txt"
    labels.write_text(f"0.png 0\n1.png 1\n{last}\n")
    arguments = {"images": [str(tmp_path / "photos")], "labels": str(labels)}
    with pytest.raises(UsageError, match=message):
        caffe_merge.convert(*pair, **arguments)
    options = ImageOptions(
        images.find(arguments["images"]),  # type: ignore[arg-type]
        labels=images.read_labels(str(labels)),
        progress=lambda *_: pytest.fail("an image has run"),
    )
    with pytest.raises(UsageError, match=message):
        validate(pair, pair, images=options)


def test_outputs_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    """A detector's last layer, which nobody here can run: alone, and beside another output."""
    folder(tmp_path)
    options = ImageOptions(images.find([str(tmp_path / "photos")]))
    lines = ["data 1 3 9 7", "c: TanH data -> c", "u: DetectionOutput c -> det"]
    alone = write_pair(tmp_path, prototxt(*lines), {"none": []}, "alone")
    comparison = validate(alone, alone, images=options)
    assert comparison.status == "inconclusive"
    assert "no output could be compared on the images: layer 'u'" in comparison.reason
    assert validate(alone, alone, images=options, allow_unseen=True).ok
    two = write_pair(tmp_path, prototxt(*lines, "s: Sigmoid c -> s"), {"none": []}, "two")
    comparison = validate(two, two, images=options)
    assert comparison.ok
    assert "  'det': not compared" in comparison.summary()
    assert comparison.to_json()["images"]["unjudged"][0][0] == "det"


def test_labels_without_classes_are_an_error(tmp_path: Path) -> None:
    folder(tmp_path)
    net = prototxt("data 1 3 9 7", "c: TanH data -> c")
    pair = write_pair(tmp_path, net, {"none": []})
    paths = images.find([str(tmp_path / "photos")])
    labels = {Path(path).name: 0 for path in paths}
    with pytest.raises(UsageError, match="labels: no output has one value for each class"):
        validate(pair, pair, images=ImageOptions(paths, labels=labels))
