"""Weights in HDF5: ``/data/<layer>/<blob number>``, read into an Index, and written.

What is stored in one piece is read from its place, like a blob of a caffemodel; what is
chunked, compressed or of another number type is read when it is asked for. Links are followed
within the file, as HDF5 does; what leads out of it is refused: weights are one file. A group for
every layer, blobs that another layer owns left out: net.cpp, ToHDF5 and CopyTrainedLayersFromHDF5.
"""

import contextlib
from functools import lru_cache
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Tuple

import numpy as np

from caffe_merge.arrays import Array, count
from caffe_merge.errors import UsageError, WeightsError
from caffe_merge.schema import strings
from caffe_merge.weights import solverstate
from caffe_merge.weights.blobproto import MAX_AXES
from caffe_merge.weights.blobs import BLOCK, DOUBLE, FLOAT, HALF, Blob, Stored
from caffe_merge.weights.index import Index, LayerRecord
from caffe_merge.weights.source import Buffer, values
from caffe_merge.weights.writer import Entry, check_finite
from caffe_merge.wording import quoted

_DATA = "data"
_DTYPES: Dict[str, np.dtype] = {"<f2": HALF, "<f4": FLOAT, "<f8": DOUBLE}
_MAX_DEPTH = 16  # of groups in groups: parts of one layer's name
_MAX_LINKS = 500_000
_MAX_HOPS = 16  # soft links to soft links: HDF5's own limit
# Values that the file need not have in full: compressed ones, or those of chunks never written.
MAX_MADE = 1 << 28
_MOST_PACKED = 16  # times as many values as there are bytes for them: more is not a net's weights
_HELD = 4  # blobs that are kept once they are decompressed: as many as a rewrite reads in turns


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
        self._made = 0
        self._decoded = Decoded(path)
        with _errors(path):
            handle = h5py.File(path, "r")
            self._inside = Inside(h5py, handle, path)
            data = self._inside.follow(handle, _DATA.encode())
            if data is None and "iter" in handle and "history" in handle:
                state = solverstate.words(int(handle["iter"][()]))
                raise WeightsError(f"expected Caffe's weights, found {state}", path=path)
            if not isinstance(data, h5py.Group):
                raise WeightsError("no group /data in it: not Caffe's weights", path=path)
            self._read(data, ())
            if not self._made:
                handle.close()
        self.require_layers("Caffe's weights")

    def _read(self, group: Any, parts: Tuple[bytes, ...]) -> None:
        """A record for each layer in ``group``; a name with / is a group in a group."""
        if len(parts) > _MAX_DEPTH:
            message = f"expected groups nested at most {_MAX_DEPTH} deep"
            raise WeightsError(message, path=self.path)
        blobs: Dict[int, Any] = {}
        groups: List[Tuple[bytes, Any]] = []
        for name in group.id:  # in bytes: it need not be UTF-8
            self._links += 1
            if self._links > _MAX_LINKS:
                raise WeightsError(f"expected at most {_MAX_LINKS:,} links", path=self.path)
            held = self._inside.follow(group, name)
            if isinstance(held, self._inside.h5py.Group):
                groups.append((name, held))
            elif name.isdigit() and parts and isinstance(held, self._inside.h5py.Dataset):
                blobs[int(name)] = held
        if parts:
            self._add(strings.decode(b"/".join(parts)), blobs)
        for name, inner in groups:
            self._read(inner, (*parts, name))

    def _add(self, name: str, datasets: Dict[int, Any]) -> None:
        blobs = []
        numbers = tuple(sorted(datasets))
        for number in numbers:
            try:
                blobs.append(self._blob(datasets[number]))
            except WeightsError as error:
                if error.path is not None:
                    raise
                message = str(error)
                raise WeightsError(message, path=self.path, layer=name, blob=number) from None
        order = len(self.layers)
        self.layers.append(LayerRecord(name, order, 0, 0, tuple(blobs), numbers=numbers))

    def _blob(self, dataset: Any) -> Stored:
        shape, kind = dataset.shape, dataset.dtype
        if shape is None or kind.kind not in "fiu":
            raise WeightsError(f"expected numbers, found {kind}")
        if len(shape) > MAX_AXES:
            raise WeightsError(f"expected at most {MAX_AXES} axes, found {len(shape)}")
        self._inside.check_values(dataset)
        layout = dataset.id.get_create_plist()
        at = dataset.id.get_offset()
        dtype = _DTYPES.get(kind.str)
        userblock = dataset.file.userblock_size
        if dtype is not None and at is not None and not layout.get_nfilters() and not userblock:
            if at + count(shape) * dtype.itemsize > len(self.buffer):
                raise WeightsError("its values reach beyond the end of the file")
            held = values(self.buffer, dtype, count(shape), at)
            return Stored(tuple(shape), held, keep_half=self.keep_half)
        if count(shape) > _MOST_PACKED * dataset.id.get_storage_size():
            self._made += count(shape)
        self._made = max(self._made, 1)
        if self._made > MAX_MADE:
            raise WeightsError(
                f"expected at most {MAX_MADE:,} values that take next to no room in the file"
            )
        return _Read(dataset, self._decoded, self.keep_half)


class Inside:
    """Follows links as HDF5 does, and refuses what leaves the file before anything is opened."""

    def __init__(self, h5py: Any, handle: Any, path: str) -> None:
        self.h5py = h5py
        self._root = handle
        self._path = path

    def follow(self, group: Any, name: bytes, hops: int = 0) -> Any:
        """What ``name`` in ``group`` stands for; None where there is no such name."""
        if not group.id.links.exists(name):
            return None
        link = group.id.links.get_info(name)
        if link.type == self.h5py.h5l.TYPE_HARD:
            return group[name]
        problem = "leads out of this file; copy in what it stands for"
        if link.type == self.h5py.h5l.TYPE_SOFT:
            problem = "leads to nothing in this file"
            held = self.resolve(group, group.id.links.get_val(name), hops + 1)
            if held is not None:
                return held
        place = strings.decode(self.h5py.h5i.get_name(group.id) or b"/")
        where = f"the link {quoted(strings.decode(name))} in {quoted(place)}"
        raise WeightsError(f"{where} {problem}", path=self._path)

    def resolve(self, group: Any, path: bytes, hops: int = 0) -> Any:
        """What stands at ``path``, as seen from ``group``; None where nothing does."""
        held = self._root if path.startswith(b"/") else group
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            if hops > _MAX_HOPS or not isinstance(held, self.h5py.Group):
                return None
            held = self.follow(held, part, hops)
        return held

    def check_values(self, dataset: Any, depth: int = 0) -> None:
        """Raise WeightsError where values of ``dataset`` are in another file."""
        layout = dataset.id.get_create_plist()
        if layout.get_external_count():
            raise WeightsError("expected values in this file, found them in another; copy them in")
        if layout.get_layout() != self.h5py.h5d.VIRTUAL:
            return
        if depth > _MAX_DEPTH:
            raise WeightsError(f"expected virtual datasets nested at most {_MAX_DEPTH} deep")
        for number in range(layout.get_virtual_count()):
            name = layout.get_virtual_dsetname(number)
            if layout.get_virtual_filename(number) != "." or "%" in name:
                raise WeightsError("expected values in this file, found a view of another's")
            source = self.resolve(self._root, name.encode())
            if isinstance(source, self.h5py.Dataset):
                self.check_values(source, depth + 1)


class Decoded:
    """Values that h5py reads and converts, the last few blobs' of a file.

    Decompression may need a whole blob for any row of it, so rows are taken from the whole.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.values = lru_cache(_HELD)(self._values)

    def _values(self, dataset: Any, dtype: np.dtype) -> Array:
        with _errors(self._path):
            return np.asarray(dataset[()], dtype).ravel()


class _Read(Stored):
    """A blob that h5py reads and converts when it is asked for."""

    def __init__(self, dataset: Any, decoded: Decoded, keep_half: bool) -> None:
        kind, size = dataset.dtype.kind, dataset.dtype.itemsize
        self._dtype: np.dtype = FLOAT  # Caffe's own, for integers too
        if kind == "f" and size != 4:
            self._dtype = HALF if size == 2 else DOUBLE
        self._dataset = dataset
        self._decoded = decoded
        super().__init__(dataset.shape, np.empty(0, self._dtype), keep_half=keep_half)

    @property
    def values(self) -> Array:
        """All of them, flat."""
        return self._decoded.values(self._dataset, self._dtype)


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
