"""Whether stored blobs fit a layer, and what to do where they do not."""

import contextlib
from typing import Iterator, List, Mapping, NamedTuple, Optional, Sequence, Union

from caffe_merge.arrays import BlobShape, Shape
from caffe_merge.errors import NetError, OptionName, SizeError, Text, WeightsError
from caffe_merge.formats.weights.blobs import Blob, Stored
from caffe_merge.formats.weights.index import LayerRecord
from caffe_merge.layers import norms
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.layer import Layer
from caffe_merge.notes import Note
from caffe_merge.wording import counted, with_article

_MOST_COLOURS = 4  # channels that an image has, alpha included


class Unfit(NamedTuple):
    """A layer that stored blobs do not fit: what was expected and found, of which blob."""

    layer: str
    message: str
    hint: str = ""
    blob: Optional[int] = None
    path: Optional[str] = None


def fit(
    layer: Layer, record: LayerRecord, expected: Optional[Sequence[BlobShape]]
) -> Union[List[Blob], Unfit]:
    """The blobs of ``record`` in the ``expected`` shapes; None of these is any (a fork's)."""
    if expected is None or norms.fits_a_style(layer, record.blobs, expected):
        return list(record.blobs)
    number = len(record.blobs)
    if len(expected) != number:
        blobs_expected = f"{counted(len(expected), 'blob')} for {with_article(layer.type)}"
        message = f"expected {blobs_expected}, found {number}"
        return Unfit(layer.name, message, _about_bias(layer, len(expected), number))
    blobs: List[Blob] = []
    for at, (blob, shape) in enumerate(zip(record.blobs, expected)):
        fitted = _reshaped(blob, shape)
        if fitted is None:
            message = f"expected shape {_show(shape)}, found {blob.shape}"
            return Unfit(layer.name, message, blob=at)
        blobs.append(fitted)
    return blobs


def check(
    unfit: Sequence[Unfit], records: int, inputs: Mapping[str, Optional[Shape]]
) -> List[Note]:
    """Raise WeightsError for the first of ``unfit``, with how many there are.

    ``records`` is the number of layers in the weights file. An input of ``inputs`` (blob name ->
    shape) that has its channels last is the likely cause; where all fits there is a note on it.
    """
    swapped = channels_last(inputs)
    if not unfit:
        return [] if swapped is None else [Note("channels-last", "", swapped)]
    layer, message, hint, blob, path = unfit[0]
    if len(unfit) > 1:
        message += f" ({len(unfit)} of the {records} layers in the file do not fit)"
    message += hint
    if swapped is not None:
        message += f"; {swapped}"
    elif not hint and len(unfit) > 1:
        message += ": is this the right pair?"
    raise WeightsError(message, path=path, layer=layer, blob=blob)


class Explained:
    """Has a SizeError of this block say what is odd about the ``inputs``, as they are then."""

    def __init__(self, inputs: Mapping[str, Optional[Shape]]) -> None:
        self._inputs = inputs

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        if isinstance(error, SizeError):
            swapped = channels_last(self._inputs)
            if swapped is not None:
                raise NetError(Text(error.message, f"; {swapped}"), layer=error.layer) from error


@contextlib.contextmanager
def naming_shapes(shapes: Mapping[str, Shape]) -> Iterator[None]:
    """Have an error of this block name the ``shapes`` that the user gave: they may be its cause."""
    try:
        yield
    except (SizeError, WeightsError) as error:
        for name, shape in shapes.items():
            error.add("; with ", OptionName("input_shape"), f" {name}={','.join(map(str, shape))}")
        raise


def channels_last(inputs: Mapping[str, Optional[Shape]]) -> Optional[str]:
    """What is to be said of an input whose channels seem to be its last axis; None if none is."""
    for name, shape in inputs.items():
        if shape is not None and _has_channels_last(shape):
            batch, height, width, channels = shape
            return (
                f"input {name!r} has shape {shape}, as if channels were last: Caffe has batch, "
                f"channels, height, width: {batch},{channels},{height},{width}"
            )
    return None


def _has_channels_last(shape: Shape) -> bool:
    """Whether it looks like (batch, height, width, channels)."""
    return len(shape) == 4 and 0 < shape[3] <= _MOST_COLOURS < min(shape[1], shape[2])


def _about_bias(layer: Layer, expected: int, actual: int) -> str:
    """What to do where the file has a bias and the text says there is none, or the reverse."""
    block = CATALOGUE[layer.type].block if layer.type in CATALOGUE else ""
    fields = getattr(layer.param, block, None) if block else None
    term = getattr(fields, "bias_term", None)
    if term is False and actual == expected + 1:
        return f": the last one is a bias; set bias_term: true in {block}"
    if term is True and actual == expected - 1:
        return f": there is no bias; set bias_term: false in {block}"
    return ""


def _reshaped(blob: Stored, expected: BlobShape) -> Optional[Stored]:
    """The blob under the shape Caffe wants (ShapeEquals, blob.cpp); None if it does not fit."""
    if expected is None:
        return blob
    shape = blob.shape
    if blob.legacy and len(expected) <= 4:
        extra = 4 - len(expected)
        if any(dim != 1 for dim in shape[:extra]):
            return None
        shape = shape[extra:]
    if len(shape) != len(expected):
        return None
    if any(want is not None and want != have for want, have in zip(expected, shape)):
        return None
    return blob.reshaped(shape) if blob.legacy else blob


def _show(shape: BlobShape) -> str:
    dims = ["?" if dim is None else str(dim) for dim in shape or ()]
    return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"
