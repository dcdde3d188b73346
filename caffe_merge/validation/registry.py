"""The engines that can judge a pair: one row for each. Flags, help and errors read this table."""

import contextlib
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional

from caffe_merge.errors import OptionName, UsageError, meant

NONE = "none"  # no engine: nothing is judged
MAY_BE_NONE = "validate"  # the option of a merge, which names an engine or none


class Engine(NamedTuple):
    """A row. ``command`` is given the interpreter that the user names, and starts the worker.

    ``limit`` is the largest error that passes, relative to a blob's largest value; ``most`` the
    multiply-adds that it does in about a minute; ``about`` what it is, and ``get`` how to get it.
    ``together``: its worker has the job ``judge``, which loads both pairs and compares them where
    they are; else each pair has a worker of its own, and what they send is compared here.
    ``time_limit`` is the longest that it may take for one job unless the user says how long.
    ``built_in``: it is here wherever this package is.
    """

    limit: float
    most: float
    command: Callable[[Optional[str]], List[str]]
    about: str
    get: str
    together: bool = False
    time_limit: Optional[float] = None
    built_in: bool = False


def _reference(python: Optional[str]) -> List[str]:
    from caffe_merge.validation.workers import reference_command

    return reference_command()


def _pycaffe(python: Optional[str]) -> List[str]:
    from caffe_merge.validation.workers import caffe_command, find_caffe_python

    python = python or find_caffe_python()
    if not python:
        caffe = OptionName("caffe_python")
        raise UsageError(
            "no interpreter with Caffe: name one with ",
            caffe,
            f" or CAFFE_MERGE_CAFFE_PYTHON; {ENGINES['pycaffe'].get}",
        )
    return caffe_command(python)


def _opencv(python: Optional[str]) -> List[str]:
    from importlib.util import find_spec

    from caffe_merge.validation.workers import opencv_command

    if find_spec("cv2") is None:
        raise UsageError(f"no OpenCV here: {ENGINES['opencv'].get}")
    return opencv_command()


# The reference computes in float64, so its limit has room for the rounding of the merged weights
# alone; Caffe and OpenCV sum in float32, in an order that a merge changes.
ENGINES: Dict[str, Engine] = {
    "reference": Engine(
        1e-5,
        40e9,
        _reference,
        about="Caffe's layers in numpy and float64",
        get="built in",
        together=True,
        built_in=True,
    ),
    "pycaffe": Engine(
        1e-4,
        400e9,
        _pycaffe,
        about="the Caffe of an interpreter: BVLC's, or a fork's with its layers",
        get="docs/engines.md has two that pip installs",
        time_limit=600,
    ),
    "opencv": Engine(
        1e-4,
        400e9,
        _opencv,
        about="OpenCV's reader of Caffe files, without fusion",
        get="pip install caffe_merge[opencv]",
        time_limit=600,
    ),
}
DEFAULT = "reference"


def engine(name: str) -> Engine:
    """The row of the engine ``name``. Raises UsageError for an unknown name."""
    if name not in ENGINES:
        raise UsageError(f"no engine is called {name!r}{meant(name, (*ENGINES, NONE))}")
    return ENGINES[name]


@contextlib.contextmanager
def started(name: str, python: Optional[str], limit: Optional[float]) -> Iterator[None]:
    """Start the engine ``name``, to see that it is here; it waits for the jobs of this block.

    Nothing is started for NONE or a built-in engine. ``python`` is the interpreter that the user
    names, ``limit`` how many seconds it may take, by default what the engine's row says. Raises
    UsageError if the engine cannot be started, and ValidationError if it takes longer.
    """
    row = None if name == NONE else engine(name)
    if row is None or row.built_in:
        yield
        return
    from caffe_merge.validation import warm
    from caffe_merge.validation.workers import Worker

    with warm.keeping():
        with Worker(row.command(python), limit or row.time_limit) as worker:
            worker.call({"do": "about"})
        yield
