"""One layer of a net: its typed parameters, its blobs, and what is known of both."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple, TypeVar

from caffe_merge.arrays import count
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.formats.text.values import parse_integer
from caffe_merge.formats.weights.blobs import Blob
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.state import TEST, TRAIN

Result = TypeVar("Result")
# What a layer is to be: its LayerParameter (a LayerSpec where fields of a fork change too) and its
# blobs.
New = Tuple[Any, Tuple[Blob, ...]]
# Results of `remembered` functions, each with the values that it was computed from. The keys are
# the function and the ids of these values, which are unique as long as the values are held here.
Results = Dict[Tuple[Any, ...], Tuple[Tuple[Any, ...], Any]]


class Layer:
    """A layer. ``param`` and ``blobs`` are what passes edit; the rest says where they came from.

    param     the LayerParameter, edited in place or replaced
    original  the LayerParameter as read; None for a layer that a pass made
    blobs     the values the layer runs on, in Caffe's order; empty where they are not known
    loaded    ``blobs`` as loaded, to tell whether they changed
    extra     the fields of its text that the schema does not know: dotted name -> its text, "" for
              a block, several values with blanks between
    written   ``extra`` as read, to tell what changed
    active    it is in the net: the NetState does not leave it out
    record    its LayerRecord in the weights' index, None if it has none
    phase     the phase of its net, which counts unless its own text names one
    filled    its blobs are made by its fillers, the file has none
    missing   blobs of it are not in the file, and its fillers are random (or not known)
    misfit    how its bottoms' shapes break BVLC's rule for its type, which its fork's may not be;
              None if they do not
    implicit  it stands for net-level ``input`` fields and has no text of its own
    sources   the names of layers merged into it
    style     the name of the normalisation style that the user says it is of, "" if he says none
    """

    __slots__ = (
        "active", "blobs", "extra", "filled", "implicit", "loaded", "misfit", "missing",
        "original", "param", "phase", "record", "sources", "style", "written",
    )  # fmt: skip

    def __init__(
        self, param: Any, active: bool = True, implicit: bool = False, phase: int = TEST
    ) -> None:
        self.param = param
        self.original: Optional[Any] = LayerParameter()
        self.original.CopyFrom(param)
        self.active = active
        self.implicit = implicit
        self.phase = phase
        self.blobs: Tuple[Blob, ...] = ()
        self.loaded: Tuple[Blob, ...] = ()
        self.record: Optional[Any] = None
        self.extra: Dict[str, str] = {}
        self.written: Dict[str, str] = {}
        self.filled = False
        self.missing = False
        self.misfit: Optional[str] = None
        self.sources: Tuple[str, ...] = ()
        self.style = ""

    def __repr__(self) -> str:
        return f"<{self.type} {self.name!r}>"

    @property
    def name(self) -> str:
        """The layer's name; Caffe lets several layers have one name."""
        value: str = self.param.name
        return value

    @property
    def type(self) -> str:
        """The type string."""
        value: str = self.param.type
        return value

    @property
    def trains(self) -> bool:
        """Whether its phase makes it behave as in training (net.cpp: its own, else the net's)."""
        return bool((self.param.phase if self.param.HasField("phase") else self.phase) == TRAIN)

    @property
    def is_rewritten(self) -> bool:
        """Whether its text is to say something else than what was read."""
        return bool(self.param != self.original) or self.extra != self.written

    @property
    def parameters(self) -> int:
        """The number of values in its blobs."""
        return sum(count(blob.shape) for blob in self.blobs)

    def load_blobs(self, blobs: Sequence[Blob]) -> None:
        """Set the blobs that the files give it."""
        self.blobs = self.loaded = tuple(blobs)


_results: ContextVar[Optional[Results]] = ContextVar("results", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Cache the results of `remembered` functions as long as the block runs, and no longer.

    In the block parameters of layers must not be edited in place, but for the names of bottoms and
    tops; to give a layer other ones is right at any time.
    """
    token = _results.set({})
    try:
        yield
    finally:
        _results.reset(token)


def remembered(find: Callable[..., Result]) -> Callable[..., Result]:
    """Cache ``find(layer, ...)`` in a block of `remembering`: every pass asks for the same again.

    A result belongs to the parameters, blobs, fork fields and style that it was computed from: a
    layer that gets others, even its earlier ones back, has the results of those. It must not
    depend on the names of bottoms and tops.
    """

    @wraps(find)
    def lookup(layer: Layer, *more: Any) -> Result:
        results = _results.get()
        if results is None:
            return find(layer, *more)
        facts = (layer.extra, layer.style, layer.missing, layer.misfit)
        basis = (layer.param, layer.blobs, *facts, *more)
        key = (find, *map(id, basis))
        if key not in results:
            results[key] = basis, find(layer, *more)
        value: Result = results[key][1]
        return value

    return lookup


def shares_memory(layer: Layer) -> bool:
    """Whether the top of a layer is its bottom's memory in Caffe (Blob::ShareData), not a copy."""
    row = CATALOGUE.get(layer.type)
    if row is not None and row.shares == "alone":
        return len(layer.param.bottom) == len(layer.param.top) == 1
    if layer.type == "Permute":  # SSD's: one that changes nothing; axes not named follow in order
        order = list(map(parse_integer, layer.extra.get("permute_param.order", "").split()))
        return order == list(range(len(order)))
    return row is not None and row.shares == "always"
