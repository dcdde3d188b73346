"""What fuzzing starts from: the inputs of the tests, each the smallest of its kind."""

import io
from typing import Callable, Dict, List

import numpy as np

from tests.formats.text import test_spelling, test_syntax, test_view
from tests.formats.text.upgrade import test_any_style
from tests.formats.weights import test_caffemodel, test_solverstate


def texts() -> List[bytes]:
    """Prototxts."""
    held = [
        *test_syntax.FORMS,
        *test_syntax.ERRORS,
        *test_view.ODD,
        *test_view.CASES,
        test_view.FORK,
        *test_spelling.CASES,
        *test_spelling.FINE,
        test_any_style.PADDED,
    ]
    return [text.encode("utf-8", "surrogateescape") for text in held]


def wires() -> List[bytes]:
    """Caffemodels."""
    blobs = [
        blob for blob, *_ in [*test_caffemodel.STORED.values(), *test_caffemodel.WRONG.values()]
    ]
    small = [blob for blob in blobs if len(blob) < 4096]
    return [test_caffemodel.WHOLE, test_solverstate.state(), *map(test_caffemodel.layer, small)]


def files() -> List[bytes]:
    """HDF5; none where h5py is not installed."""
    try:
        import h5py
    except ImportError:
        return []
    values = np.arange(12, dtype="f4").reshape(3, 4)
    kinds: List[Dict[str, object]] = [
        {}, {"dtype": ">f8"}, {"dtype": "u1"}, {"chunks": (2, 2)},
        {"compression": "gzip", "shuffle": True, "fletcher32": True}, {"maxshape": (None, 4)},
    ]  # fmt: skip
    out = []
    for latest in (False, True):
        for kind in kinds:
            held = io.BytesIO()
            with h5py.File(held, "w", libver="latest" if latest else "earliest") as file:
                file.create_dataset("data/conv/0", data=values, **kind)
                file["data/conv/1"] = np.float32(1)
                file["data/soft"] = h5py.SoftLink("/data/conv")
                file.create_group("data/relu")
            out.append(held.getvalue())
    return out


def makings() -> List[bytes]:
    """What HDF5 files are made by; none where h5py is not installed."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        return []
    random = np.random.default_rng(5)
    return [random.bytes(length) for length in range(4, 124, 4)]


CORPORA: Dict[str, Callable[[], List[bytes]]] = {
    "text": texts,
    "wire": wires,
    "hdf5": files,
    "made": makings,
}
