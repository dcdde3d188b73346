"""Weights in HDF5: ``/data/<layer>/<blob number>``, read into an Index, and written.

What is stored in one piece is read from its place, like a blob of a caffemodel; what is
chunked, compressed or of another number type is read each time it is asked for. A group for every
layer, blobs that another layer owns left out: net.cpp, ToHDF5 and CopyTrainedLayersFromHDF5.
"""

import contextlib
from typing import Any, BinaryIO, Dict, Iterable, Iterator, Tuple

import numpy as np

from caffe_merge.arrays import Array, count
from caffe_merge.errors import UsageError, WeightsError
from caffe_merge.schema import strings
from caffe_merge.weights.blobproto import MAX_AXES
from caffe_merge.weights.blobs import BLOCK, DOUBLE, FLOAT, HALF, Blob, Stored
from caffe_merge.weights.index import Index, LayerRecord
from caffe_merge.weights.source import Buffer, values
from caffe_merge.weights.writer import Entry, check_finite

_DATA = "data"
_DTYPES: Dict[str, np.dtype] = {"<f2": HALF, "<f4": FLOAT, "<f8": DOUBLE}
_MAX_DEPTH = 16  # of groups in groups: parts of one layer's name
_MAX_LINKS = 500_000


def _library(path: str) -> Any:
    try:
        import h5py
    except ImportError:
        message = f"{path}: weights in HDF5 need h5py: pip install caffe_merge[hdf5]"
        raise UsageError(message) from None
    return h5py


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    """What h5py raises for a file that is damaged, or none of Caffe's, in one line."""
    try:
        yield
    except WeightsError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"not a whole HDF5 file: {reason}", path=path) from None


class Hdf5Index(Index):
    """The index of an HDF5 file: its records have blobs and no bytes."""

    kind = "hdf5"
    has_bytes = False

    def __init__(self, buffer: Buffer, path: str, *, keep_half: bool = False) -> None:
        super().__init__(buffer, path, keep_half)
        self._h5py = h5py = _library(path)
        self._links = 0
        self._lazy = False
        with _errors(path):
            handle = h5py.File(path, "r")
            data = handle.get(_DATA)
            if not isinstance(data, h5py.Group):
                raise WeightsError("no group /data in it: not Caffe's weights", path=path)
            self._read(data, ())
            if not self._lazy:
                handle.close()
        self.require_layers("Caffe's weights")

    def _read(self, group: Any, parts: Tuple[bytes, ...]) -> None:
        """A record for each layer in ``group``; a name with / is a group in a group."""
        for name in group.id:  # in bytes: it need not be UTF-8
            self._links += 1
            if len(parts) > _MAX_DEPTH or self._links > _MAX_LINKS:
                raise WeightsError("expected fewer groups", path=self.path)
            if group.id.links.get_info(name).type != self._h5py.h5l.TYPE_HARD:
                continue  # into another file, or to nowhere
            inner = group[name]
            if isinstance(inner, self._h5py.Group):
                self._add(inner, (*parts, name))
                self._read(inner, (*parts, name))

    def _add(self, group: Any, parts: Tuple[bytes, ...]) -> None:
        name = strings.decode(b"/".join(parts))
        held = {key: group[key] for key in group.id if key.isdigit()}
        sets = {int(k): item for k, item in held.items() if isinstance(item, self._h5py.Dataset)}
        blobs = []
        for number in sorted(sets):
            try:
                blobs.append(self._blob(sets[number]))
            except WeightsError as error:
                message = str(error)
                raise WeightsError(message, path=self.path, layer=name, blob=number) from None
        order = len(self.layers)
        self.layers.append(
            LayerRecord(name, order, 0, 0, tuple(blobs), numbers=tuple(sorted(sets)))
        )

    def _blob(self, dataset: Any) -> Stored:
        shape, stored = dataset.shape, dataset.dtype
        if shape is None or stored.kind not in "fiu":
            raise WeightsError(f"expected numbers, found {stored}")
        if len(shape) > MAX_AXES:
            raise WeightsError(f"expected at most {MAX_AXES} axes, found {len(shape)}")
        layout = dataset.id.get_create_plist()
        if layout.get_external_count():
            raise WeightsError("expected values in this file, found them in another")
        at = dataset.id.get_offset()
        dtype = _DTYPES.get(stored.str)
        userblock = dataset.file.userblock_size
        if dtype is not None and at is not None and not layout.get_nfilters() and not userblock:
            if at + count(shape) * dtype.itemsize > len(self.buffer):
                raise WeightsError("its values reach beyond the end of the file")
            held = values(self.buffer, dtype, count(shape), at)
            return Stored(tuple(shape), held, keep_half=self.keep_half)
        self._lazy = True
        return _Read(dataset, self.path, self.keep_half)


class _Read(Stored):
    """A blob that h5py reads and converts each time it is asked for."""

    def __init__(self, dataset: Any, path: str, keep_half: bool) -> None:
        kind, size = dataset.dtype.kind, dataset.dtype.itemsize
        self._dtype: np.dtype = FLOAT  # Caffe's own, for integers too
        if kind == "f" and size != 4:
            self._dtype = HALF if size == 2 else DOUBLE
        self._dataset = dataset
        self._path = path
        super().__init__(dataset.shape, np.empty(0, self._dtype), keep_half=keep_half)

    @property
    def values(self) -> Array:
        """All of them, flat."""
        with _errors(self._path):
            return np.asarray(self._dataset[()], self._dtype).ravel()


def write(handle: BinaryIO, path: str, entries: Iterable[Entry]) -> None:
    """Write ``entries`` to the open ``handle``; ``path`` is for errors.

    Raises WeightsError for a name that the layout cannot hold, and where a value is not finite.
    """
    h5py = _library(path)
    # By its handle: a path would have to be opened again, and it is locked.
    with h5py.File(handle, "w") as file:
        data = file.create_group(_DATA)
        for entry in entries:
            stored = entry.blobs or (entry.record.blobs if entry.record else ())
            if not stored and not _holds(entry.name):
                continue
            if not _holds(entry.name):
                message = "weights in HDF5 cannot have a layer of this name; write a .caffemodel"
                raise WeightsError(message, path=path, layer=entry.name)
            group = data.create_group(strings.encode(entry.name))
            numbers = None if entry.blobs or not entry.record else entry.record.numbers
            for number, blob in zip(numbers or range(len(stored)), stored):
                if number not in entry.shared:
                    _write(group, number, blob, entry.name)


def _holds(name: str) -> bool:
    """Whether Caffe can write and read back a group of this name: / makes a group in a group."""
    return name not in ("", ".") and "/" not in name and "\0" not in name


def _write(group: Any, number: int, blob: Blob, layer: str) -> None:
    dataset = group.create_dataset(str(number), blob.shape, blob.dtype, track_times=False)
    if not count(blob.shape):
        return
    if not blob.shape:
        values = blob.rounded()
        check_finite(values, layer, number)
        dataset[()] = values.reshape(())
        return
    step = max(BLOCK // count(blob.shape[1:]), 1)
    for start in range(0, blob.shape[0], step):
        rows = blob.rounded(slice(start, start + step))
        check_finite(rows, layer, number)
        dataset[start : start + step] = rows
