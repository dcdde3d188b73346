"""HDF5 files by the bytes of a fuzzer: each thing in them is one that h5py can write."""

import contextlib
import math
from typing import Any, List

import h5py

NAMES = (b"data", b"0", b"1", b"12", b"conv", b"a/b", b"iter", b"\xff\x80", b"..", b".", b"history")
PATHS = ("/data", "/data/conv", "conv", "0", "/", ".", "../conv", "/nowhere", "/data/loop", "1")
KINDS = ("f4", ">f4", "f2", "f8", "u1", "i8", "S3", "c8", "?")
WRONG = (ValueError, OSError, RuntimeError, KeyError, TypeError, AttributeError)
MOST = 40  # things in a file
LARGEST = 1 << 12  # values of a dataset: 7 ** 9 of them, compressed, would take seconds to write


class _FileMaker:
    """A file while it is made: ``groups`` are those that things may be put in."""

    def __init__(self, handle: Any, data: bytes) -> None:
        self._handle = handle
        self._bytes = iter(data)
        self._groups: List[Any] = [handle, handle.create_group("data")]
        self._groups.append(handle.create_group("data/conv"))

    def pick(self, choices: Any) -> Any:
        """One of ``choices``, by the next byte."""
        return choices[next(self._bytes) % len(choices)]

    def fill(self) -> None:
        """Put things in until the bytes come to an end."""
        things = (self._group, self._values, self._values, self._values, self._link, self._virtual)
        with contextlib.suppress(StopIteration):
            for _ in range(MOST):
                with contextlib.suppress(*WRONG):  # there is something of that name already
                    self.pick(things)(self.pick(self._groups), self.pick(NAMES))

    def _group(self, group: Any, name: bytes) -> None:
        self._groups.append(group.create_group(name))

    def _values(self, group: Any, name: bytes) -> None:
        shape = tuple(self.pick((1, 2, 3, 0, 7)) for _ in range(self.pick((1, 2, 0, 4, 9))))
        if math.prod(shape) > LARGEST:
            return
        layout = self.pick(({}, {}, {"chunks": True}, {"compression": "gzip", "shuffle": True},
                            {"fletcher32": True}, {"maxshape": (None,) * len(shape)},
                            {"external": [("elsewhere", 0, 64)]}, {"shape": None}))  # fmt: skip
        values = {"shape": shape, "dtype": self.pick(KINDS), **layout}
        result = group.create_dataset(name, **{k: v for k, v in values.items() if v is not None})
        if self.pick((True, False)) and "external" not in layout:
            result[...] = self.pick((1, 0, 3))

    def _link(self, group: Any, name: bytes) -> None:
        kind = self.pick((h5py.SoftLink, h5py.SoftLink, h5py.HardLink, None))
        path = self.pick(PATHS)
        link = h5py.ExternalLink("elsewhere.h5", path) if kind is None else kind(path)
        group[name] = self._handle[path] if kind is h5py.HardLink else link

    def _virtual(self, group: Any, name: bytes) -> None:
        layout = h5py.VirtualLayout((2, 3), "f4")
        source = self.pick((".", ".", "elsewhere.h5"))
        layout[0] = h5py.VirtualSource(source, self.pick(PATHS), shape=(3,))
        group.create_virtual_dataset(name, layout)


def write_file(path: str, data: bytes) -> None:
    """Write the file that ``data`` asks for to ``path``."""
    with h5py.File(path, "w", libver="latest" if data[:1] > b"\x7f" else "earliest") as handle:
        _FileMaker(handle, data[1:]).fill()
