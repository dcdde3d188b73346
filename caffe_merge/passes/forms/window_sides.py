"""window-sides: sizes of a window that are lists, or of one side only, are written side by side.

    kernel_size: 3 kernel_size: 5        kernel_h: 3 kernel_w: 5
    pad: 1 pad: 1                        pad: 1
    stride_h: 2                          stride_h: 2 stride_w: 1

For targets that read the first of a list alone, or exchange height and width, or want both sides.
Caffe has no ``dilation_h``: a dilation is written as one value, or stays a list.
"""

from __future__ import annotations

from typing import Any, Tuple, Union

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.geometry import convolution_window
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class WindowSides(Form):
    """Writes lists of kernel, stride and pad as _h and _w, for targets that misread lists."""

    name = "window-sides"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        rank = graph.bottoms[layer][0].rank
        if rank not in (None, 4):
            return Reason("only a window of two axes has _h and _w")
        param = copied(layer.param)
        window = convolution_window(LayerSpec(param), 2)
        block = param.convolution_param
        for name, short, sizes in (
            ("kernel_size", "kernel", window.kernel),
            ("stride", "stride", window.stride),
            ("pad", "pad", window.pad),
        ):
            _write(block, name, short, sizes)
        if len(set(window.dilation)) == 1 and len(block.dilation) > 1:
            block.dilation[:] = window.dilation[:1]
        note = "had its window written side by side"
        return Rewrite((layer,), {layer: (param, layer.blobs)}, "", note)


def _write(block: Any, name: str, short: str, sizes: Tuple[int, ...]) -> None:
    """Write ``sizes`` (height, width) without a list; what is no list and whole stays."""
    values, sides = getattr(block, name), (f"{short}_h", f"{short}_w")
    has_sides = [block.HasField(side) for side in sides]
    if len(values) < 2 and has_sides[0] == has_sides[1]:
        return
    block.ClearField(name)
    if sizes[0] == sizes[1] and not any(has_sides):
        getattr(block, name).append(sizes[0])
        return
    for side, size in zip(sides, sizes):
        setattr(block, side, size)
