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
from caffe_merge.errors import UsageError
from caffe_merge.validation import forward, image_files, images, validate
from caffe_merge.validation.images import ImageOptions
from tests.nets import Pair, prototxt, write_pair
from tests.required import required
from tests.validation.nets import AFTER, pairs, weights
from tests.validation.photos import folder, save


@pytest.fixture(autouse=True)
def pillow() -> None:
    required("PIL", "images")


def on_images(tmp_path: Path, after: Pair, engine: str = "reference") -> Any:
    before, _ = pairs(tmp_path)
    names = folder(tmp_path)
    labels = {name: number for number, name in enumerate(names)}
    paths = image_files.find([str(tmp_path / "photos")])
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
        pixels = image_files.load(row.image, (3, 8, 8))
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
        image_files.find(arguments["images"]),  # type: ignore[arg-type]
        labels=image_files.read_labels(str(labels)),
        progress=lambda *_: pytest.fail("an image has run"),
    )
    with pytest.raises(UsageError, match=message):
        validate(pair, pair, images=options)


def test_outputs_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    """A detector's last layer, which nobody here can run: alone, and beside another output."""
    folder(tmp_path)
    options = ImageOptions(image_files.find([str(tmp_path / "photos")]))
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
    paths = image_files.find([str(tmp_path / "photos")])
    labels = {Path(path).name: 0 for path in paths}
    with pytest.raises(UsageError, match="labels: no output has one value for each class"):
        validate(pair, pair, images=ImageOptions(paths, labels=labels))
