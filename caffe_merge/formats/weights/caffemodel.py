"""The index of a caffemodel: each layer's name and blobs as ranges of the file.

blobproto.py reads the blobs, writer.py writes such a file.
"""

from __future__ import annotations

from typing import Iterator, List

from caffe_merge.errors import WeightsError
from caffe_merge.formats.schema import strings
from caffe_merge.formats.weights import solverstate
from caffe_merge.formats.weights.blobproto import read_blob
from caffe_merge.formats.weights.index import Index, LayerRecord
from caffe_merge.formats.weights.source import Buffer
from caffe_merge.formats.weights.wire import BYTES, Record, records

NET_LAYER, NET_V1_LAYER = 100, 2
LAYER_NAME, LAYER_TYPE, LAYER_BLOBS = 1, 2, 7
_V1_V0, _V1_NAME, _V1_BLOBS = 1, 4, 6  # of V1LayerParameter, the first being its V0LayerParameter
_V0_NAME, _V0_BLOBS = 1, 50

MAX_FIELDS = 500_000  # of the net and its layers; with MAX_PARTS a bound on time and memory


class Caffemodel(Index):
    """The index of a caffemodel; ``others`` are the net's fields that are no layers."""

    kind = "caffemodel"

    def __init__(self, buffer: Buffer, path: str = "<weights>", *, keep_half: bool = False) -> None:
        super().__init__(buffer, path, keep_half)
        self.others: List[Record] = []
        self._fields = 0
        state = solverstate.described(buffer[: solverstate.HEAD])
        if state is not None:
            raise WeightsError(f"expected a caffemodel, found {state}", path=path)
        old: List[_Layer] = []
        try:
            for record in self._records(0, len(buffer)):
                if record.number == NET_LAYER and record.wire_type == BYTES:
                    layer = self._layer(record, LAYER_NAME, LAYER_BLOBS)
                    self.layers.append(self._stored(layer))
                elif record.number == NET_V1_LAYER and record.wire_type == BYTES:
                    old.append(self._layer(record, _V1_NAME, _V1_BLOBS, _V1_V0))
                else:
                    self.others.append(record)
            if old:
                self._upgrade(old)
        except WeightsError as error:
            if error.path is not None:
                raise
            reason = f"{error}; copy or download it again"
            raise WeightsError(f"not a whole caffemodel: {reason}", path=path) from None
        self.require_layers("a caffemodel")

    def _records(self, at: int, end: int) -> Iterator[Record]:
        for record in records(self.buffer, at, end):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise WeightsError(f"expected at most {MAX_FIELDS} fields", path=self.path)
            yield record

    def _layer(self, record: Record, name: int, blobs: int, inner: int = 0) -> _Layer:
        """What ``record`` has in the fields of these numbers."""
        layer = _Layer(record)
        for field in self._records(record.start, record.end):
            if field.wire_type != BYTES:
                continue
            if field.number == name:
                layer.name = strings.decode(bytes(self.buffer[field.start : field.end]))
            elif field.number == LAYER_TYPE and blobs == LAYER_BLOBS:
                layer.type = strings.decode(bytes(self.buffer[field.start : field.end]))
            elif field.number == blobs:
                layer.blobs.append(field)
            elif field.number == inner:
                layer.inner.append(field)
        return layer

    def _upgrade(self, old: List[_Layer]) -> None:
        """Read the layers of an old file; as in Caffe all are of the V0 format if one is."""
        if self.layers:
            both = "expected `layer` or `layers`, found both in one file; Caffe refuses it too"
            raise WeightsError(both, path=self.path)
        self.format = "V0" if any(layer.inner for layer in old) else "V1"
        for layer in old:
            if self.format == "V0":
                parts = [self._layer(inner, _V0_NAME, _V0_BLOBS) for inner in layer.inner]
                layer.name = next((part.name for part in reversed(parts) if part.name), "")
                layer.blobs = [blob for part in parts for blob in part.blobs]
            self.layers.append(self._stored(layer)._replace(old=True))

    def _stored(self, layer: _Layer) -> LayerRecord:
        stored = []
        for number, blob in enumerate(layer.blobs):
            try:
                stored.append(read_blob(self.buffer, blob, self.keep_half))
            except WeightsError as error:
                path, name = self.path, layer.name
                raise WeightsError(str(error), path=path, layer=name, blob=number) from None
        record = layer.record
        whole = record.at, record.start, record.end
        return LayerRecord(layer.name, *whole, tuple(stored), type=layer.type)


class _Layer:
    """One layer on the wire: name, type, blobs, and the records of another format in it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.name = self.type = ""
        self.blobs: List[Record] = []
        self.inner: List[Record] = []
