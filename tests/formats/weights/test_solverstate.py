"""A .solverstate is told for what it is, however it is written and wherever it is cut."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import caffe_merge
from caffe_merge.errors import NetError, WeightsError
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.formats.weights.solverstate import described
from caffe_merge.formats.weights.wire import field, varint
from tests.nets import caffemodel
from tests.seeds import examples

MESSAGE = "a .solverstate, left by a training at iteration 5,000: "


def state(path: str = "snap/net_iter_5000.caffemodel", history: int = 3) -> bytes:
    """As Caffe writes it: iteration, path of the weights, momentum, current step."""
    learned = field(2, path.encode()) if path else b""
    blobs = b"".join(
        field(3, field(7, b"\x0a\x02\x04\x03") + field(5, bytes(48))) for _ in range(history)
    )
    return b"\x08" + varint(5000) + learned + blobs + b"\x20\x01"


def test_it_names_the_weights() -> None:
    assert described(state()) == MESSAGE + "its weights are in 'snap/net_iter_5000.caffemodel'"
    assert described(state("")) == MESSAGE + "the .caffemodel is beside it"
    assert described(state()[:20]) == MESSAGE + "the .caffemodel is beside it"
    assert described(state("", 0)[:3]) == MESSAGE + "the .caffemodel is beside it"


@pytest.mark.parametrize(
    "head", [b"", b"\x08", b"\x08\x80", b"\x0a\x01x", caffemodel({"a": [np.ones(3)]}), b"\x12\x01x"]
)
def test_what_is_none(head: bytes) -> None:
    assert described(head) is None


@examples(100)
@given(st.binary(max_size=20))
def test_any_bytes(data: bytes) -> None:
    described(data)


def test_as_weights(tmp_path: Path) -> None:
    path = tmp_path / "net_iter_5000.solverstate"
    path.write_bytes(state())
    with pytest.raises(WeightsError) as caught:
        open_index(str(path))
    assert str(caught.value) == f"{path}: expected a caffemodel, found {described(state())}"


def test_as_weights_in_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "net_iter_5000.solverstate.h5"
    with h5py.File(path, "w") as file:
        file["iter"], file["current_step"], file["learned_net"] = 5000, 0, "x.caffemodel.h5"
        file["history/0"] = np.ones(3, "f4")
    with pytest.raises(WeightsError, match="expected Caffe's weights, found " + MESSAGE):
        open_index(str(path))


def test_a_solver_as_the_text(tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text('net: "train_val.prototxt"\nbase_lr: 0.01\n')
    with pytest.raises(NetError, match="in it: a solver's settings: the net is the file that its"):
        caffe_merge.load(str(path), None)
    path.write_text('name: "x"\n')
    with pytest.raises(NetError, match="no layers in it: not the text of a net"):
        caffe_merge.load(str(path), None)
