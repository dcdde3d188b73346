"""What is fuzzed: any bytes give a result or a CaffeMergeError; nothing else may happen."""

import io
import os
import signal
import sys
import tempfile
import traceback
from typing import Callable, Dict, List

from caffe_merge.errors import CaffeMergeError, WeightsError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.spelling import for_caffe
from caffe_merge.formats.text.syntax import Document, encode
from caffe_merge.formats.text.upgrade import upgrade
from caffe_merge.formats.text.view import View, extra_fields
from caffe_merge.formats.weights import writer
from caffe_merge.formats.weights.caffemodel import Caffemodel
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.formats.weights.index import Entry, Index

SECONDS = 20  # that one input may take
MOST_VALUES = 1 << 20  # of a blob: reading more of them tells nothing new


def text(data: bytes) -> None:
    """A prototxt: read, spelled for Caffe, upgraded, viewed, edited; the meaning stays."""
    try:
        document = Document(data)
    except CaffeMergeError:
        return
    assert encode(document.text) == encode(Edits(document).text()) == data
    try:
        meant = _read(document)
        spelled, _ = for_caffe(document)
        assert _read(spelled).SerializeToString() == meant.SerializeToString()
        assert for_caffe(spelled) == (spelled, None)
        _edit(upgrade(spelled)[0])
    except CaffeMergeError as error:
        _check_line(error)


def _read(document: Document) -> NetParameter:
    view, message = View(document), NetParameter()
    view.read(document.fields, message)
    extra_fields(view.unknown)
    for unknown in view.unknown:
        document.place(unknown.at)
    return message


def _edit(document: Document) -> None:
    """Change and remove layers, and put new ones between."""
    message = _read(document)
    old = iter(message.layer)
    edits = Edits(document)
    meant: List[LayerParameter] = []
    for field in document.fields:
        for element, block in enumerate(field.values if field.name == "layer" else ()):
            layer, new = next(old), LayerParameter()
            if len(meant) % 3 == 2:
                meant.append(LayerParameter())
                edits.remove(field, element)
                continue
            new.CopyFrom(layer)
            new.top.append("a\x1b\\")
            new.convolution_param.num_output = 7
            edits.update(block, layer, new)
            edits.insert_after(field, "layer", new, element)
            meant += [new, new]
    kept = [layer for layer in meant if layer.top]
    written = _read(Document(encode(edits.text()))).layer
    assert [_bytes(layer) for layer in written] == [_bytes(layer) for layer in kept]


def _bytes(layer: LayerParameter) -> bytes:
    return bytes(layer.SerializePartialToString(deterministic=True))


def wire(data: bytes) -> None:
    """A caffemodel: indexed, its blobs valued, written again."""
    try:
        index = Caffemodel(data)
        _values(index)
        entries = [Entry(layer.name, layer, layer.blobs) for layer in index.layers if not layer.old]
        writer.write(_Nothing(), index, entries)
    except CaffeMergeError as error:
        _check_line(error)


def hdf5(data: bytes) -> None:
    """A file of h5py's, read as its reader's process does, which libhdf5 may take down."""
    from caffe_merge.formats.weights import hdf5_reader

    with tempfile.NamedTemporaryFile(suffix=".h5", dir=_memory()) as handle:
        handle.write(b"\x89HDF\r\n\x1a\n" + data[8:])
        handle.flush()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(SECONDS)
                sys.argv[1:] = [handle.name]
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                hdf5_reader.main()
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    assert not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGALRM, "too slow"


def hdf5_made(data: bytes) -> None:
    """An HDF5 file that is whole, with the groups, links and layouts that ``data`` asks for.

    It is read in this process, where a fuzzer sees which lines run; libhdf5 is right about it.
    """
    from caffe_merge.formats.weights import hdf5_reader
    from tests.fuzz.hdf5 import write_file

    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = os.path.join(folder, "made.h5")
        write_file(path, data)
        try:
            hdf5_reader.read(path, io.BytesIO())
        except WeightsError as error:
            _check_line(error)
        except hdf5_reader.DAMAGED:
            pass  # a name that h5py cannot follow, as a loop of links


def hdf5_whole(data: bytes) -> None:
    """The same through both processes, blobs valued."""
    with tempfile.NamedTemporaryFile(suffix=".h5", dir=_memory()) as handle:
        handle.write(b"\x89HDF\r\n\x1a\n" + data[8:])
        handle.flush()
        try:
            _values(open_index(handle.name))
        except CaffeMergeError as error:
            _check_line(error)


def _memory() -> "str | None":
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _values(index: Index) -> None:
    for record in index.layers:
        for blob in record.blobs:
            if blob.values.size <= MOST_VALUES:
                assert blob.array().shape == blob.shape
                for _ in blob.blocks():
                    pass


class _Nothing:
    """Takes bytes and forgets them."""

    def write(self, data: object, /) -> None:
        """Take ``data``."""


def _check_line(error: CaffeMergeError) -> None:
    assert len(str(error).splitlines()) == 1, str(error)


TARGETS: Dict[str, Callable[[bytes], None]] = {
    "text": text,
    "wire": wire,
    "hdf5": hdf5,
    "made": hdf5_made,
}
