"""One pair from its flags to its outcome: whatever is wrong is in the outcome."""

import csv
import threading
from pathlib import Path
from typing import Any, Dict

import pytest

from caffe_merge.batching import report, running
from caffe_merge.batching.outcome import Result
from caffe_merge.batching.running import run
from caffe_merge.command import batch as batch_command
from caffe_merge.errors import FileError, ValidationError
from caffe_merge.files import workplace
from tests.batching.trees import net, pair, request
from tests.required import required


@pytest.fixture
def flags(tmp_path: Path) -> Dict[str, Any]:
    pair(tmp_path, "x", net())
    arguments = dict(request("x", "--output-dir", "y", "--validate", "none").flags)
    named = {"model": "x.prototxt", "weights": "x.caffemodel"}
    arguments.update({name: str(tmp_path / path) for name, path in named.items()})
    arguments.update({f"output_{n}": str(tmp_path / "out" / path) for n, path in named.items()})
    return {**arguments, "force": True, "report": None}


def test_hashes_of_all_files(flags: Dict[str, Any]) -> None:
    outcome = run(flags)
    assert outcome.ok
    assert list(outcome.inputs) == [flags["model"], flags["weights"]]
    assert outcome.outputs["output_model"] == running.sha256(flags["output_model"])
    assert outcome.seconds > 0


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (MemoryError(), "memory", "out of memory"),
        (OSError(28, "No space left on device", "x"), "input", "x: No space left on device"),
        (KeyError("z"), "crash", "internal error, please report it: KeyError: 'z'"),
        (ValidationError("it died"), "validation", "it died"),
    ],
)
def test_whatever_is_raised(
    flags: Dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: str,
    reason: str,
) -> None:
    def convert(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(running, "convert", convert)
    outcome = run(flags)
    assert (outcome.status, outcome.kind, outcome.reason) == ("failed", kind, reason)


def test_a_run_that_is_about_to_end_is_waited_for(
    flags: Dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch that was killed the workers may still be there when it is resumed."""
    Path(flags["output_model"]).parent.mkdir()
    held = workplace.claim(flags["output_model"])
    ending = threading.Timer(0.3, held.leave)
    ending.start()
    assert run(flags).ok
    ending.join()
    monkeypatch.setattr(running, "_PATIENCE", 0.1)
    held = workplace.claim(flags["output_model"])
    assert "another run is writing this output" in run(flags).reason
    held.leave()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileError("no space left", path="p.html"), ": p.html: no space left"),
        (KeyError("x"), ", please report it: KeyError: 'x'"),
    ],
)
def test_a_pair_outlives_its_page(
    flags: Dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Exception,
    reason: str,
) -> None:
    required("jinja2", "html")

    def write(*_: Any) -> None:
        raise error

    flags.update(report=str(tmp_path / "pages" / "p.html"), name_of=str)
    monkeypatch.setattr("caffe_merge.merging.report_file.write", write)
    outcome = run(flags)
    assert outcome.ok
    assert outcome.reason == "its page was not written" + reason
    assert Path(flags["output_model"]).exists()


def test_where_no_layer_is_changed_there_is_nothing_to_validate(flags: Dict[str, Any]) -> None:
    text = Path(flags["model"])
    text.write_text(text.read_text().split("layer", 2)[1].join(("layer", "")))
    outcome = run({**flags, "validate": "reference"})
    assert outcome.ok, outcome.reason
    assert outcome.validation == {
        "engine": "none", "status": "no change", "worst": None, "accuracy": None
    }  # fmt: skip


def test_the_accuracy_on_images(flags: Dict[str, Any], tmp_path: Path) -> None:
    required("PIL", "images")
    from PIL import Image

    for color in range(2):
        Image.new("RGB", (6, 6), (99 * color, 9, 80)).save(tmp_path / f"{color}.png")
    (tmp_path / "labels").write_text("0.png 0\n1.png 0\n")
    images = [str(tmp_path / f"{color}.png") for color in range(2)]
    how = {"validate": "reference", "images": images, "labels": str(tmp_path / "labels")}
    outcome = run({**flags, **how})
    assert outcome.ok, outcome.reason
    before, after = outcome.validation["accuracy"]  # type: ignore[index]
    assert before == after
    assert before in (0, 0.5, 1)
    pair_ = {"name": "x", "model": "x", "weights": "x", "output_model": "", "output_weights": ""}
    result = Result(**pair_, outcome=outcome)
    assert f"passed, accuracy {before:.2%} -> {after:.2%}" in "".join(batch_command.table([result]))
    report.write(str(tmp_path / "report.csv"), [result])
    (row,) = csv.DictReader((tmp_path / "report.csv").read_text().splitlines())
    assert float(row["accuracy_before"]) == float(row["accuracy_after"]) == before
