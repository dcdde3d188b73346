"""What is known of a weights file, whatever its format: each layer's name and its blobs."""

import contextlib
from threading import Thread
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from google.protobuf.message import Message

from caffe_merge.errors import WeightsError
from caffe_merge.formats.weights.blobs import Blob, Stored
from caffe_merge.formats.weights.source import Buffer, Source


class LayerRecord(NamedTuple):
    """One layer of the file: its bytes (``at`` .. ``end`` with tag and length) and its blobs.

    ``numbers`` says which of its layer's blobs they are where some may be left out (HDF5). ``old``
    is a record of the V0 or V1 format: of its bytes only those of the blobs are of use. ``type`` is
    the layer's type in a record of the current format; Caffe does not read it.
    """

    name: str
    at: int
    start: int
    end: int
    blobs: Tuple[Stored, ...]
    numbers: Optional[Tuple[int, ...]] = None
    old: bool = False
    type: str = ""

    @property
    def as_is(self) -> bool:
        """Whether its bytes can be copied as they are."""
        return all(blob.as_is for blob in self.blobs)


class Entry(NamedTuple):
    """One layer to write. Without ``new`` nothing of it changed: its record is copied.

    What BVLC's writer would not write (gradients, a fork's encoding) is not copied: such a record
    is encoded anew. ``shared`` are the blobs of another layer, which HDF5 leaves out.
    """

    name: str
    record: Optional[LayerRecord]
    blobs: Sequence[Blob]
    old: Optional[Message] = None
    new: Optional[Message] = None
    shared: FrozenSet[int] = frozenset()


class Index:
    """The layers of a weights file, in file order, and their blobs.

    With ``keep_half`` blobs in half precision stay so, else they are written as float32.
    """

    kind = ""  # which of weights.formats it is of
    has_bytes = True  # whether its records are byte ranges that a writer can copy
    format = ""  # "V0" or "V1" of an old caffemodel

    def __init__(self, buffer: Buffer, path: str, keep_half: bool) -> None:
        self.path = path
        self.keep_half = keep_half
        self.buffer = buffer
        self.layers: List[LayerRecord] = []

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return len(self.buffer)

    def read_ahead(self) -> None:
        """Have another thread bring in the whole file, for who will need all of it.

        Nobody waits for it.
        """
        if not isinstance(self.buffer, Source):
            return
        with contextlib.suppress(RuntimeError):  # no thread can be had: it is read when it is used
            Thread(target=self.buffer.read_ahead, daemon=True).start()

    def check_unchanged(self) -> None:
        """Raise FileError where the file is not any more what was read of it."""
        if isinstance(self.buffer, Source):
            self.buffer.check()

    def by_name(self) -> Dict[str, LayerRecord]:
        """The record of each layer name; of several the last, which is the one Caffe ends with."""
        return {layer.name: layer for layer in self.layers}

    def require_layers(self, what: str) -> None:
        """Raise WeightsError where no layers were found: it is not ``what`` then."""
        if not self.layers:
            raise WeightsError(f"no layers in it: not {what}", path=self.path)
