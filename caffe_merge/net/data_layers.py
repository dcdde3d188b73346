"""Data layers: which layers bring data into a net, and the shapes of their tops.

The text says how large an image is cropped, the weights of its first reader how many channels it
has; where one of the two is missing the shape is the user's to give.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite, prod
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import OptionName, Text
from caffe_merge.formats.weights.index import Index
from caffe_merge.layers import catalogue
from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.catalogue import CATALOGUE, of_family, that
from caffe_merge.layers.fillers import MAX_FILLED
from caffe_merge.layers.shapes.geometry import MAX_AXES

Param = Any  # a LayerParameter
Extra = Mapping[str, str]  # a layer's fields that the schema does not know

_SAME_SHAPE = that("same_shape")
_SAME_CHANNELS = _SAME_SHAPE | {*of_family(catalogue.POOLING)}
_IMAGES = that("images")
_ONE_PER_ROW = of_family(catalogue.DECONVOLUTION, catalogue.DEPTHWISE)  # weights: (C, ...)
_PREPARING = that("labels")
_LOSS = ("Loss", "Accuracy", "Evaluat")  # in the name of a type, or of a Python layer's class


def is_loss(param: Param) -> bool:
    """Whether a layer compares with labels and is of no use without them.

    Its type says so; of a Python layer its class or a loss_weight.
    """
    if not param.bottom:
        return False
    if param.type == "Python":
        return any(param.loss_weight) or _is_named_as_loss(param.python_param.layer)
    return _is_named_as_loss(param.type)


@lru_cache(maxsize=64)  # a net has few types of layers
def _is_named_as_loss(name: str) -> bool:
    return any(word in name for word in _LOSS)


def is_source(param: Param) -> bool:
    """Whether a layer other than an Input makes its tops of nothing that is in the pair.

    What a Parameter makes is in the weights.
    """
    return not param.bottom and param.type not in ("Input", "Parameter")


def data_layers(params: Sequence[Param]) -> List[Param]:
    """The layers whose tops come from outside the net.

    A DummyData of constants is one only where nothing else brings data; else it is a constant, as
    is a fork's layer without bottoms that is not called data and gives no loss its labels.
    """
    compared = {name for param in params if is_loss(param) for name in param.bottom}
    candidates = []
    for param in params:
        if is_source(param):
            named = "data" in param.type.lower() or param.type == "Python"
            if named or not compared.isdisjoint(param.top):
                candidates.append(param)
    real = [param for param in candidates if not is_constant(param)]
    return real if real or any(param.type == "Input" for param in params) else candidates


def is_constant(param: Param) -> bool:
    """Whether it is a DummyData that makes the same values each time."""
    if param.type != "DummyData":
        return False
    return all(filler.type == "constant" for filler in param.dummy_data_param.data_filler)


def constants(param: Param) -> Dict[str, np.ndarray]:
    """What a DummyData of constants makes, by top, in float64 (dummy_data_layer.cpp).

    Nothing where Caffe would refuse its shapes or values, or where these are not finite or too
    many; and nothing of a layer that is none.
    """
    if not is_constant(param):
        return {}
    dummy, number = param.dummy_data_param, len(param.top)
    dims = dummy.num, dummy.channels, dummy.height, dummy.width
    counts = {len(values) for values in ((dummy.shape,) if dummy.shape else dims)}
    values = [filler.value for filler in dummy.data_filler] or [0.0]
    if (dummy.shape and any(dims)) or not counts | {len(values)} <= {1, number}:
        return {}
    given_shapes = [_dummy_shape(param, top) for top in range(number)]
    shapes = [shape for shape in given_shapes if shape is not None and _can_fill(shape)]
    if len(shapes) < number or not all(map(isfinite, values)):
        return {}
    every = values * number if len(values) == 1 else values
    return {
        top: np.broadcast_to(np.float64(value), shape)
        for top, value, shape in zip(param.top, every, shapes)
    }


def source_shapes(param: Param, fed: Mapping[str, Shape]) -> Dict[str, Optional[Shape]]:
    """The shapes of what a layer without bottoms makes, by top: ``fed``, or that of its constants.

    None for a top of which nothing is known beside another; nothing where none is known.
    """
    if param.bottom:
        return {}
    shape_of = {name: value.shape for name, value in constants(param).items()}
    shape_of.update((top, fed[top]) for top in param.top if top in fed)
    return {top: shape_of.get(top) for top in param.top} if shape_of else {}


def _can_fill(shape: Shape) -> bool:
    return len(shape) <= MAX_AXES and min(shape, default=1) > 0 and prod(shape) <= MAX_FILLED


def is_label(param: Param, number: int) -> bool:
    """Whether a data layer's top ``number`` is a label by the layer's type."""
    return number > 0 and "Data" in param.type and param.type not in ("HDF5Data", "DummyData")


def label_blobs(params: Sequence[Param]) -> Set[str]:
    """The blobs that only losses read, behind their first bottom, or layers that prepare them so.

    What has learned something is no label, though a loss compares with it: the other tower of a
    siamese net.
    """
    is_label: Dict[str, List[bool]] = {}  # what each reader so far takes the blob for
    for param in reversed(params):
        read_as = [is_label.pop(top, []) for top in param.top]
        may_prepare = param.type in _PREPARING or param.type not in CATALOGUE
        prepares = may_prepare and all(read and all(read) for read in read_as)
        for number, name in enumerate(param.bottom):
            label = (is_loss(param) and number > 0) or (prepares and bool(read_as))
            is_label.setdefault(name, []).append(label)
        if not param.bottom:
            is_label.update(zip(param.top, read_as))
    return {name for name, read in is_label.items() if read and all(read)}


class Shapes:
    """The shapes that the data layers of a net give, as far as text and weights tell them."""

    def __init__(self, params: Sequence[Param], index: Optional[Index]) -> None:
        self._params = params
        self._records = index.by_name() if index is not None else {}

    def of(
        self, param: Param, top: str, extra: Extra, batch: Optional[int] = None
    ) -> Optional[Shape]:
        """The shape of ``top`` of the data layer ``param``, with its own batch if None is given."""
        if param.type == "DummyData":
            shape = _dummy_shape(param, list(param.top).index(top))
            return shape if batch is None or not shape else (batch, *shape[1:])
        number = batch or _batch_size(param) or 1
        if param.type == "MemoryData":
            memory_data = param.memory_data_param
            return (number, memory_data.channels, memory_data.height, memory_data.width)
        size = image_size(param, extra)
        if size is None:
            values = self._values(top)
            return (number, values) if values is not None else None
        channels = self.channels(top, size) or _channels(param)
        return (number, channels, *size) if channels else None

    def request(self, param: Param, top: str, extra: Extra) -> Text:
        """The option that gives ``top`` its shape; in capitals what the user knows."""
        size = image_size(param, extra)
        dims = (1, self.channels(top, size) or "CHANNELS", *(size or ("HEIGHT", "WIDTH")))
        return Text(OptionName("input_shape"), f" {top}={','.join(map(str, dims))}")

    def channels(
        self, blob: str, size: Optional[Tuple[int, int]] = None, start: int = 0
    ) -> Optional[int]:
        """The channels that the first reader of ``blob`` with weights expects; None if unknown."""
        for at in range(start, len(self._params)):
            param = self._params[at]
            if blob not in param.bottom:
                continue
            channels = self._expected_channels(param, blob, size)
            if channels is None and len(param.bottom) == 1:
                tops = [self.channels(top, size, at + 1) for top in param.top if top != blob]
                if param.type in _SAME_CHANNELS:
                    channels = next((number for number in tops if number is not None), None)
                elif _slices_channels(param) and None not in tops:
                    channels = sum(filter(None, tops)) or None
            if channels is not None:
                return channels
        return None

    def _expected_channels(
        self, param: Param, blob: str, size: Optional[Tuple[int, int]]
    ) -> Optional[int]:
        record = self._records.get(param.name)
        if record is None or not record.blobs or list(param.bottom[:1]) != [blob]:
            return None
        shape = record.blobs[0].shape
        if param.type == "Convolution" and len(shape) == 4:
            return int(shape[1] * param.convolution_param.group)
        if param.type in _ONE_PER_ROW:
            return shape[0] if len(shape) == 4 else None
        if param.type in ("BatchNorm", "PReLU") or (
            param.type == "Scale" and param.scale_param.axis == 1
        ):
            return shape[-1] if shape else None
        if param.type == "InnerProduct" and size is not None:
            values = self._inner(param)
            return values // (size[0] * size[1]) if values else None
        return None

    def _inner(self, param: Param) -> Optional[int]:
        record = self._records.get(param.name)
        inner_product = param.inner_product_param
        if (
            record is None
            or not record.blobs
            or inner_product.axis != 1
            or len(record.blobs[0].shape) < 2
        ):
            return None
        return record.blobs[0].shape[-2 if inner_product.transpose else -1]

    def _values(self, blob: str, start: int = 0) -> Optional[int]:
        """The number of values that an InnerProduct expects of ``blob``, flattened or not."""
        for at in range(start, len(self._params)):
            param = self._params[at]
            if blob not in param.bottom:
                continue
            if param.type == "InnerProduct":
                return self._inner(param)
            if param.type == "Flatten" or param.type in _SAME_SHAPE:
                onward = param.top and param.top[0] != blob
                values = self._values(param.top[0], at + 1) if onward else None
                if values is not None:
                    return values
        return None


def _slices_channels(param: Param) -> bool:
    return param.type == "Slice" and axis_of(param, 4) == 1


def _dummy_shape(param: Param, number: int) -> Optional[Shape]:
    dummy = param.dummy_data_param
    if dummy.shape:
        return tuple(dummy.shape[min(number, len(dummy.shape) - 1)].dim)
    dims = (dummy.num, dummy.channels, dummy.height, dummy.width)
    if not all(dims):
        return None
    return tuple(values[min(number, len(values) - 1)] for values in dims)


def _batch_size(param: Param) -> int:
    sizes = (
        param.data_param.batch_size,
        param.image_data_param.batch_size,
        param.window_data_param.batch_size,
        param.memory_data_param.batch_size,
        param.hdf5_data_param.batch_size,
    )
    return int(max(sizes))


def image_size(param: Param, extra: Extra) -> Optional[Tuple[int, int]]:
    """Height and width: what is cropped, else what every image is resized to."""
    if param.type not in _IMAGES:
        return None
    for block in (
        param.transform_param, param.data_param, param.image_data_param, param.window_data_param
    ):  # fmt: skip
        if block.crop_size:
            return block.crop_size, block.crop_size
    image = param.image_data_param
    if image.new_height and image.new_width:
        return image.new_height, image.new_width
    resized = [
        extra.get(f"transform_param.resize_param.{side}", "") for side in ("height", "width")
    ]
    if all(side.isdigit() for side in resized):  # SSD's
        return int(resized[0]), int(resized[1])
    return None


def _channels(param: Param) -> Optional[int]:
    """The channels by the text, for where the weights do not tell them."""
    transform = param.transform_param
    if transform.force_gray:
        return 1
    if transform.force_color or len(transform.mean_value) == 3:
        return 3
    if param.type == "ImageData":
        return 3 if param.image_data_param.is_color else 1
    return None


def known_shapes(
    params: Sequence[Param], extras: Sequence[Extra], index: Optional[Index]
) -> Dict[str, Shape]:
    """The shapes of data layers' first tops, where text and weights tell them; their own batch."""
    shapes = Shapes(params, index)
    data = {id(param) for param in data_layers(params)}
    shape_of = {}
    for param, extra in zip(params, extras):
        if id(param) in data and param.top:
            shape = shapes.of(param, param.top[0], extra)
            if shape is not None and min(shape, default=0) > 0:
                shape_of[param.top[0]] = shape
    return shape_of


def missing_shapes(
    params: Sequence[Param],
    extras: Sequence[Extra],
    index: Optional[Index],
    shaped: Collection[str],
) -> Dict[str, Text]:
    """The inputs whose shapes nothing tells, labels apart, and the option that would give each.

    ``shaped`` are the blobs whose shapes are known.
    """
    shapes = Shapes(params, index)
    labels = label_blobs(params)
    return {
        top: shapes.request(param, top, extra)
        for param, extra in zip(params, extras)
        for number, top in enumerate(param.top)
        if not (param.bottom or top in shaped or top in labels or is_label(param, number))
    }
