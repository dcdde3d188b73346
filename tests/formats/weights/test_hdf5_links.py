"""HDF5 that is more than a plain tree: links, other files, what is packed, what is damaged."""

import io
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.errors import FileError, ValidationError, WeightsError
from caffe_merge.formats.weights import hdf5
from caffe_merge.formats.weights.formats import open_index
from tests.nets import write_pair
from tests.real_caffe import RealCaffe
from tests.speed import at_most

h5py = pytest.importorskip("h5py")
hdf5_reader = pytest.importorskip("caffe_merge.formats.weights.hdf5_reader")

FC = np.arange(-48, 48, dtype="f4").reshape(3, 32) / 64
OTHER = np.float32([9, 8, 7])


def other(path: Path) -> None:
    """A file beside ``path``, with values at the place of ours."""
    with h5py.File(path.parent / "other.h5", "w") as file:
        file["data/l/0"] = -FC
        file["data/l/1"] = OTHER
        file["0"] = -FC


def by_external_storage(path: Path) -> None:
    (path.parent / "raw").write_bytes(b"1234" * 6)
    with h5py.File(path, "w") as file:
        file.create_dataset("data/l/0", (6,), "f4", external=[("raw", 0, 24)])


def by_linked_group(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("data")["l"] = h5py.ExternalLink("other.h5", "/data/l")


def by_linked_values(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data/l/1"] = OTHER
        file["data/l/0"] = h5py.ExternalLink("other.h5", "/data/l/0")


def by_linked_data(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink("other.h5", "/data")


def by_both_links(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["away"] = h5py.ExternalLink("other.h5", "/data")
        file["data/l"] = h5py.SoftLink("/away/l")


def view(path: Path, source: Any) -> None:
    """``path`` with a virtual dataset of ``source``."""
    layout = h5py.VirtualLayout(shape=FC.shape, dtype="f4")
    layout[:] = source
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("data/l/0", layout)


def by_view(path: Path) -> None:
    view(path, h5py.VirtualSource("other.h5", "0", shape=FC.shape))


def by_view_of_a_view(path: Path) -> None:
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(shape=FC.shape, dtype="f4")
        layout[:] = h5py.VirtualSource("other.h5", "0", shape=FC.shape)
        file.create_virtual_dataset("mine", layout)
    view(path, h5py.VirtualSource(".", "mine", shape=FC.shape))


def by_view_of_a_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["mine"] = h5py.ExternalLink("other.h5", "/0")
    view(path, h5py.VirtualSource(".", "mine", shape=FC.shape))


LINK = "the link %r in %r leads out of this file; copy in what it stands for"
AWAY = {
    by_external_storage: "layer 'l', blob 0: expected values in this file, found them in another",
    by_linked_group: LINK % ("l", "/data"),
    by_linked_values: LINK % ("0", "/data/l"),
    by_linked_data: LINK % ("data", "/"),
    by_both_links: LINK % ("away", "/"),
    by_view: "layer 'l', blob 0: expected values in this file, found a view of another's",
    by_view_of_a_view: "layer 'l', blob 0: expected values in this file, found a view of another's",
    by_view_of_a_link: LINK % ("mine", "/"),
}


@pytest.mark.parametrize("make", AWAY)
def test_what_leaves_the_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    other(path)
    make(path)
    with pytest.raises(WeightsError) as caught:
        open_index(str(path))
    assert AWAY[make] in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1


def test_a_view_of_the_files_own_values(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["mine"] = FC
    view(path, h5py.VirtualSource(".", "mine", shape=FC.shape))
    ((blob,),) = (record.blobs for record in open_index(str(path)).layers)
    np.testing.assert_array_equal(blob.array(), FC)


TEXT = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 32 } } }
layer { name: "l" type: "InnerProduct" bottom: "x" top: "l" inner_product_param { num_output: 3 } }
"""


def soft_group(file: Any) -> None:
    file["kept/0"], file["kept/1"] = FC, OTHER
    file.create_group("data")["l"] = h5py.SoftLink("/kept")


def soft_values(file: Any) -> None:
    file["kept"], file["data/l/1"] = FC, OTHER
    file["data/l/0"] = h5py.SoftLink("/./kept")


def soft_relative(file: Any) -> None:
    file["data/kept/0"], file["data/kept/1"] = FC, OTHER
    file["data/l"] = h5py.SoftLink("./kept")


def soft_soft(file: Any) -> None:
    file["kept/0"], file["kept/1"] = FC, OTHER
    file["a"] = h5py.SoftLink("b")
    file["b"] = h5py.SoftLink("/kept/")
    file.create_group("data")["l"] = h5py.SoftLink("/a")


def soft_data(file: Any) -> None:
    file["kept/l/0"], file["kept/l/1"] = FC, OTHER
    file["data"] = h5py.SoftLink("kept")


def hard(file: Any) -> None:
    file["kept/0"], file["kept/1"] = FC, OTHER
    file.create_group("data")["l"] = file["kept"]


@pytest.mark.parametrize(
    "make", [soft_group, soft_values, soft_relative, soft_soft, soft_data, hard]
)
def test_links_inside_the_file_are_followed_as_caffe_does(
    make: Callable[[Any], None], tmp_path: Path, real_caffe: RealCaffe
) -> None:
    prototxt, _ = write_pair(tmp_path, TEXT, {})
    path = tmp_path / "net.caffemodel.h5"
    with h5py.File(path, "w") as file:
        make(file)
    layer = caffe_merge.load(str(prototxt), str(path)).layers[1]
    for blob, values in zip(layer.blobs, (FC, OTHER)):
        np.testing.assert_array_equal(blob.array(), values)
    image = np.random.default_rng(1).standard_normal((2, 32)).astype("f4")
    theirs = real_caffe.forward_pair(prototxt, path, {"x": image})["l"]
    np.testing.assert_allclose(theirs, image @ FC.T + OTHER, rtol=1e-4)


@pytest.mark.parametrize("target", ["/nothing", "l", "/kept/0/x", "../kept"])
def test_a_link_to_nothing(target: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    prototxt, _ = write_pair(tmp_path, TEXT, {})
    path = tmp_path / "net.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file["kept/0"] = FC
        file.create_group("data")["l"] = h5py.SoftLink(target)
    with pytest.raises(WeightsError, match="the link 'l' in '/data' leads to nothing in this file"):
        open_index(str(path))
    with pytest.raises(ValidationError):
        real_caffe.forward_pair(prototxt, path, {})


def packed(path: Path, length: int) -> Path:
    """Values in a single compressed chunk: any row of them needs the whole."""
    with h5py.File(path, "w") as file:
        shape = (length, 64)
        values = np.random.default_rng(1).integers(0, 9, shape).astype("f4")
        file.create_dataset("data/l/0", data=values, chunks=shape, compression="gzip")
    return path


def test_compressed_values_are_read_once(tmp_path: Path) -> None:
    """Row by row: a chunk that is decompressed for each row of it takes quadratic time."""
    seconds: List[float] = []
    for length in (1 << 12, 1 << 15):
        (record,) = open_index(str(packed(tmp_path / f"{length}.h5", length))).layers
        start = time.process_time()
        for at in range(0, length, length // 256):
            record.blobs[0].rows(slice(at, at + 64))
        seconds.append(time.process_time() - start)
    assert max(seconds) < at_most(0.2)


def crash(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(hdf5, "_RUN", code)


def test_a_reader_that_dies_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "x.h5", 64)
    crash(monkeypatch, "import os; os.abort()")
    with pytest.raises(WeightsError, match=r"not a whole HDF5 file: its reader died \(SIGABRT\)"):
        open_index(str(path))
    crash(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(hdf5, "_SECONDS", 0.2)
    with pytest.raises(WeightsError, match="not a whole HDF5 file: expected it to be read in 0 se"):
        open_index(str(path))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileError, match=r"x\.h5: cannot read it: No such file"):
        open_index(str(path))


def test_what_takes_no_room_in_the_file_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that were never written, or zeros by the billion: 8 kB that stand for gigabytes."""
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        for number in range(3):
            size = 1 << 8 if number < 2 else 1 << 30
            file.create_dataset(f"data/l/{number}", (size,), "f4", chunks=(1 << 8,))
    with pytest.raises(WeightsError, match="'l', blob 2: expected at most 67,108,864 values that"):
        open_index(str(path))
    monkeypatch.setattr(hdf5_reader, "MAX_EXPANDED", 10_000)
    with h5py.File(path, "w") as file:
        for number in range(3):  # over the whole file
            file.create_dataset(f"data/l/{number}", data=np.zeros(4000), compression="gzip")
    with pytest.raises(WeightsError, match="expected at most 10,000 values that take next to no"):
        hdf5_reader.read(str(path), io.BytesIO())
    assert hdf5_reader.read(str(packed(tmp_path / "packed.h5", 1 << 10)), io.BytesIO())  # weights'


def text_values(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data/l/0"] = "words"


def no_values(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data/l/0"] = h5py.Empty("f4")


def cut(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data/l/0"] = FC
    path.write_bytes(path.read_bytes()[:-100])


def cycle(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data/l/0"] = FC
        file["data/l/more"] = file["data"]


def view_of_itself(path: Path) -> None:
    view(path, h5py.VirtualSource(".", "data/l/0", shape=FC.shape))


BAD: Dict[str, Tuple[Callable[[Path], Any], str]] = {
    "no data": (lambda path: h5py.File(path, "w").close(), "no group /data in it"),
    "keras": (lambda path: h5py.File(path, "w").__setitem__("data", FC), "no group /data in it"),
    "no layers": (lambda path: h5py.File(path, "w").create_group("data"), "no layers in it"),
    "cut": (cut, "not a whole HDF5 file: "),
    "garbage": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\xff" * 500), "not a whole"),
    "text": (text_values, "layer 'l', blob 0: expected numbers, found object"),
    "no values": (no_values, "layer 'l', blob 0: expected numbers, found float32"),
    "a cycle": (cycle, "expected groups nested at most 16 deep"),
    "a view of itself": (view_of_itself, "layer 'l', blob 0: expected virtual datasets nested at"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    path = tmp_path / "bad.h5"
    make(path)
    with pytest.raises(WeightsError) as caught:
        open_index(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)
