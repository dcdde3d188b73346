"""The windows that a layer slides over its bottom: read from all of its text, and written to it."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

from caffe_merge.arrays import Shape
from caffe_merge.layers.fork_fields import spec_of
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.geometry import (
    Window,
    convolution_window,
    pooling_overruns,
    pooling_pads,
    pooling_window,
)
from caffe_merge.layers.spec import ForkFields, LayerSpec


def convolution(layer: Layer, spatial: int) -> Window:
    """The window of a convolution over ``spatial`` axes. Raises NetError where it has none."""
    return convolution_window(spec_of(layer), spatial)


def pooling(layer: Layer, sizes: Shape) -> Window:
    """The window of a Pooling over a bottom of these spatial ``sizes``. Raises NetError too."""
    return pooling_window(spec_of(layer), sizes)


def is_in_bvlc_fields(layer: Layer, spatial: int) -> bool:
    """Whether BVLC's fields alone say where the windows of a convolution or Pooling lie."""
    full = spec_of(layer)
    if full.fork:
        return False
    if layer.type == "Pooling":
        return True
    return convolution_window(full, spatial) == convolution_window(LayerSpec(layer.param), spatial)


def rounds_up(layer: Layer) -> bool:
    """Whether a Pooling has a window for the rest of its bottom that fills none."""
    param = spec_of(layer).param.pooling_param
    return bool(param.round_mode == param.CEIL)


def has_ceil_mode(layer: Layer) -> bool:
    """Whether a fork's ``ceil_mode: true`` says that a Pooling rounds up."""
    return ForkFields(layer.extra).flag("pooling_param.ceil_mode", False)


def overruns(layer: Layer, spatial: Optional[int]) -> bool:
    """Whether a Pooling may have a last window that holds no place of its bottom.

    ``spatial`` is the number of axes that it slides along, None if it is not known.
    """
    return pooling_overruns(spec_of(layer), spatial)


def pads(layer: Layer) -> bool:
    """Whether a Pooling pads at all, whatever the size of its bottom."""
    return pooling_pads(spec_of(layer))


def set_convolution(param: Any, window: Window) -> None:
    """Give the convolution ``param`` (a LayerParameter) this window, of one pad for both ends.

    Fields that agree already are not touched.
    """
    conv_param = param.convolution_param
    current = convolution_window(LayerSpec(param), len(window.kernel))
    _set(conv_param, "kernel_size", "kernel", (current.kernel, window.kernel), None)
    _set(conv_param, "stride", "stride", (current.stride, window.stride), 1)
    _set(conv_param, "pad", "pad", (current.pad, window.pad), 0)
    _set(conv_param, "dilation", None, (current.dilation, window.dilation), 1)
    if conv_param.engine == conv_param.CUDNN and any(step > 1 for step in window.dilation):
        # layer_factory.cpp: cuDNN's layer takes no dilation, and aborts.
        conv_param.ClearField("engine")


def clear_pooling_stride(param: Any) -> None:
    """Give the Pooling ``param`` (a LayerParameter) a stride of 1."""
    for field in ("stride", "stride_h", "stride_w"):
        param.pooling_param.ClearField(field)


def _set(
    conv_param: Any,
    name: str,
    pair: Optional[str],
    change: Tuple[Sequence[int], Sequence[int]],
    default: Optional[int],
) -> None:
    """Set the field ``name``, or both of its ``pair``, from the first of ``change`` to the second.

    Where all values are the ``default`` the field is cleared.
    """
    current, values = change
    if tuple(current) == tuple(values):
        return
    conv_param.ClearField(name)
    if pair is not None:
        conv_param.ClearField(pair + "_h")
        conv_param.ClearField(pair + "_w")
    if set(values) == {default}:
        return
    if len(set(values)) == 1:
        getattr(conv_param, name).append(values[0])
    elif pair is not None and len(values) == 2:
        setattr(conv_param, pair + "_h", values[0])
        setattr(conv_param, pair + "_w", values[1])
    else:
        getattr(conv_param, name).extend(values)
