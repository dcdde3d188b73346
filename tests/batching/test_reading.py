"""Many files are read by workers, with the same result; a file that kills one is told."""

from pathlib import Path

import pytest

from caffe_merge.batching import batch, reading
from caffe_merge.batching.content import Contents, NotANet
from caffe_merge.batching.pool import Pool
from caffe_merge.batching.reading import read, read_by
from tests.batching import tasks
from tests.batching.trees import net, pair, planned, request


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(6):
        pair(tmp_path / "m", f"n{number}", f'name: "{number}"\n{net(4 + number % 3)}')
    (tmp_path / "m" / "broken.prototxt").write_text("layer {")
    return tmp_path / "m"


def test_workers_read_the_same(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, weights = (
        sorted(map(str, source.glob(f"*{end}"))) for end in (".prototxt", ".caffemodel")
    )
    flags = request("x", "--output-dir", "y").flags
    expected = read(texts, weights, flags)
    monkeypatch.setattr(reading, "_AT_ONCE", 4)
    with Pool(2, tasks.nothing) as pool:
        assert read_by(pool, texts, weights, flags) == expected
    plan = planned(source)
    monkeypatch.setattr(batch, "MANY", 1)
    assert planned(source) == plan


def test_a_file_that_a_worker_dies_of(source: Path) -> None:
    texts = sorted(map(str, source.glob("n*.prototxt")))
    flags = request("x", "--output-dir", "y").flags
    with Pool(1, tasks.die_of_the_second_text) as pool:
        held = read_by(pool, texts, (), flags)
    assert [isinstance(held.texts[path], NotANet) for path in texts] == [False, True, *[False] * 4]
    assert held.texts[texts[1]].why == "cannot be read: its process crashed (SIGSEGV)"


def test_texts_that_differ_in_comments_and_names_are_read_once(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = Contents(request("x", "--output-dir", "y").flags)
    first = contents.text(str(source / "n0.prototxt"))
    other = source / "other.prototxt"
    text = (source / "n0.prototxt").read_text().replace('name: "0"', '# a comment: " {\nname: "x"')
    other.write_text(text.replace("}\n", "} # one more\n", 1))
    monkeypatch.setattr(Contents, "_outline", None)
    assert contents.text(str(other)) is first
