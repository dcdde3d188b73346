"""Reads weights in HDF5, in a process of its own: libhdf5 may crash on a damaged file.

``main`` writes to stdout: the values that are not in the file in one piece (chunked, compressed,
of another number type), then what it found as JSON, then that text's length in 8 bytes.
caffe_merge.formats.weights.hdf5 runs it.

Links are followed within the file, as HDF5 does; what leads out of it is refused: weights are one
file.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
from math import prod
from typing import Any, BinaryIO, Dict, Iterator, List, Tuple

import h5py
import numpy as np

from caffe_merge.errors import WeightsError
from caffe_merge.formats.schema import strings
from caffe_merge.formats.weights import solverstate
from caffe_merge.formats.weights.blobproto import MAX_AXES
from caffe_merge.wording import quoted

# What h5py raises for a file that is damaged, or none of Caffe's.
DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
DTYPES = ("<f2", "<f4", "<f8")  # of values that are used where they stand
TRAILER = struct.Struct("<Q")
_DATA = b"data"
_MAX_DEPTH = 16  # of groups in groups: parts of one layer's name
_MAX_LINKS = 500_000
_MAX_HOPS = 16  # soft links to soft links: HDF5's own limit
# Values that the file need not have in full: compressed ones, or those of chunks never written.
MAX_EXPANDED = 1 << 26
MAX_MEMORY = 8 << 30  # bytes that the process may address
_MOST_PACKED = 16  # times as many values as there are bytes for them: more is not a net's weights

LayerList = List[Dict[str, Any]]  # layers: name (its bytes as hex), numbers and blobs


def main() -> None:
    """``PATH``: what is in it, or why it cannot be read, to stdout."""
    path = sys.argv[1]
    _bound_memory()
    out = sys.stdout.buffer
    try:
        result: Dict[str, Any] = {"layers": read(path, out)}
    except WeightsError as error:
        result = {"error": str(error), "layer": error.layer, "blob": error.blob}
    except DAMAGED as error:
        reason = f"{' '.join(str(error).split())}; copy or download it again"
        result = {"error": f"not a whole HDF5 file: {reason}"}
    except MemoryError:
        result = {"error": "not a whole HDF5 file: more memory than there is is asked for"}
    text = json.dumps(result).encode()
    out.write(text + TRAILER.pack(len(text)))


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    with contextlib.suppress(ValueError, OSError):  # there is a lower limit already
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def read(path: str, out: BinaryIO) -> LayerList:
    """The layers of the file at ``path``; values that have to be made go to ``out``.

    Raises WeightsError without the path, and what h5py raises where the file is damaged.
    """
    with h5py.File(path, "r") as handle:
        inside = Inside(handle)
        data = inside.follow(handle, _DATA)
        if data is None and "iter" in handle and "history" in handle:
            state = solverstate.words(int(handle["iter"][()]))
            raise WeightsError(f"expected Caffe's weights, found {state}")
        if not isinstance(data, h5py.Group):
            raise WeightsError("no group /data in it: not Caffe's weights")
        reader = _Reader(inside, out)
        layers = list(reader.layers(data, ()))
    if not layers:
        raise WeightsError("no layers in it: not Caffe's weights")
    return layers


class _Reader:
    """Walks the groups, and writes the values that have to be made."""

    def __init__(self, inside: Inside, out: BinaryIO) -> None:
        self._inside = inside
        self._out = out
        self._written = 0  # bytes
        self._links = 0
        self._expanded = 0  # values that take next to no room

    def layers(self, group: Any, parts: Tuple[bytes, ...]) -> Iterator[Dict[str, Any]]:
        """What there is of each layer in ``group``; a name with / is a group in a group."""
        if len(parts) > _MAX_DEPTH:
            raise WeightsError(f"expected groups nested at most {_MAX_DEPTH} deep")
        datasets: Dict[int, Any] = {}
        groups: List[Tuple[bytes, Any]] = []
        for name in group.id:  # in bytes: it need not be UTF-8
            self._links += 1
            if self._links > _MAX_LINKS:
                raise WeightsError(f"expected at most {_MAX_LINKS:,} links")
            held = self._inside.follow(group, name)
            if isinstance(held, h5py.Group):
                groups.append((name, held))
            elif name.isdigit() and parts and isinstance(held, h5py.Dataset):
                datasets[int(name)] = held
        if parts:
            yield self._layer(b"/".join(parts), datasets)
        for name, inner in groups:
            yield from self.layers(inner, (*parts, name))

    def _layer(self, name: bytes, datasets: Dict[int, Any]) -> Dict[str, Any]:
        blobs = []
        numbers = sorted(datasets)
        for number in numbers:
            try:
                blobs.append(self._blob(datasets[number]))
            except WeightsError as error:
                error.layer, error.blob = strings.decode(name), number
                raise
        return {"name": name.hex(), "numbers": numbers, "blobs": blobs}

    def _blob(self, dataset: Any) -> Dict[str, Any]:
        """Its shape and dtype, and where its values begin: in the file, or in what is written."""
        shape, kind = dataset.shape, dataset.dtype
        if shape is None or kind.kind not in "fiu":
            raise WeightsError(f"expected numbers, found {kind}")
        if len(shape) > MAX_AXES:
            raise WeightsError(f"expected at most {MAX_AXES} axes, found {len(shape)}")
        self._inside.check_values(dataset)
        layout = dataset.id.get_create_plist()
        at = dataset.id.get_offset()
        plain = not layout.get_nfilters() and not dataset.file.userblock_size
        if kind.str in DTYPES and at is not None and plain:
            return {"shape": shape, "dtype": kind.str, "at": at, "made": False}
        if prod(shape) > _MOST_PACKED * dataset.id.get_storage_size():
            self._expanded += prod(shape)
            if self._expanded > MAX_EXPANDED:
                limit = f"expected at most {MAX_EXPANDED:,} values that take next to no room"
                raise WeightsError(f"{limit} in the file")
        dtype = "<f4"  # Caffe's own, for integers too
        if kind.kind == "f" and kind.itemsize != 4:
            dtype = "<f2" if kind.itemsize == 2 else "<f8"
        values = np.ascontiguousarray(dataset[()], dtype)
        start = self._written
        self._out.write(values.reshape(-1).view(np.uint8).data)
        self._written += values.nbytes
        return {"shape": shape, "dtype": dtype, "at": start, "made": True}


class Inside:
    """Follows links as HDF5 does, and refuses what leaves the file before anything is opened."""

    def __init__(self, handle: Any) -> None:
        self._root = handle

    def follow(self, group: Any, name: bytes, hops: int = 0) -> Any:
        """What ``name`` in ``group`` stands for; None where there is no such name."""
        if not group.id.links.exists(name):
            return None
        link = group.id.links.get_info(name)
        if link.type == h5py.h5l.TYPE_HARD:
            return group[name]
        problem = "leads out of this file; copy in what it stands for"
        if link.type == h5py.h5l.TYPE_SOFT:
            problem = "leads to nothing in this file"
            held = self.resolve(group, group.id.links.get_val(name), hops + 1)
            if held is not None:
                return held
        place = strings.decode(h5py.h5i.get_name(group.id) or b"/")
        where = f"the link {quoted(strings.decode(name))} in {quoted(place)}"
        raise WeightsError(f"{where} {problem}")

    def resolve(self, group: Any, path: bytes, hops: int = 0) -> Any:
        """What stands at ``path``, as seen from ``group``; None where nothing does."""
        held = self._root if path.startswith(b"/") else group
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            if hops > _MAX_HOPS or not isinstance(held, h5py.Group):
                return None
            held = self.follow(held, part, hops)
        return held

    def check_values(self, dataset: Any, depth: int = 0) -> None:
        """Raise WeightsError where values of ``dataset`` are in another file."""
        layout = dataset.id.get_create_plist()
        if layout.get_external_count():
            raise WeightsError("expected values in this file, found them in another; copy them in")
        if layout.get_layout() != h5py.h5d.VIRTUAL:
            return
        if depth > _MAX_DEPTH:
            raise WeightsError(f"expected virtual datasets nested at most {_MAX_DEPTH} deep")
        for number in range(layout.get_virtual_count()):
            name = layout.get_virtual_dsetname(number)
            if layout.get_virtual_filename(number) != "." or "%" in name:
                raise WeightsError("expected values in this file, found a view of another's")
            source = self.resolve(self._root, name.encode())
            if isinstance(source, h5py.Dataset):
                self.check_values(source, depth + 1)
