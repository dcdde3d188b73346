"""The top shapes of BVLC's layer types: one function per rule, and the table that names them."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from caffe_merge.arrays import Shape, count
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.shapes import forks
from caffe_merge.layers.shapes.geometry import (
    Named,
    Range,
    Rule,
    canonical,
    checked,
    convolution_channels,
    convolution_window,
    convolved,
    covered,
    deconvolved,
    error,
    four_axes,
    legacy,
    misfit,
    pooled,
    pooling_window,
    pools_volumes,
    spp_windows,
)
from caffe_merge.layers.spec import LayerSpec

OLD_AXIS = {"Concat": "concat_dim", "Slice": "slice_dim"}  # instead of axis, unsigned


def _same(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return [bottoms[0]]


def _split(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return [bottoms[0]] * len(layer.param.top)


def _silence(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return []


def _input(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """One shape for all tops or one each (input_layer.cpp); without any the caller decides."""
    shapes = [tuple(shape.dim) for shape in layer.param.input_param.shape]
    if not shapes:
        return None
    if len(shapes) not in (1, len(layer.param.top)):
        raise error(layer, f"1 or {len(layer.param.top)} shapes", len(shapes))
    return shapes if len(shapes) > 1 else shapes * len(layer.param.top)


def _parameter(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return [tuple(layer.param.parameter_param.shape.dim)]


def _convolution(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return _convolution_like(layer, bottoms, transposed=False)


def _deconvolution(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return _convolution_like(layer, bottoms, transposed=True)


def _convolution_like(layer: LayerSpec, bottoms: List[Shape], transposed: bool) -> List[Shape]:
    """(..., C, spatial) -> (..., num_output, spatial'); bottoms alike (base_conv_layer.cpp)."""
    bottom = bottoms[0]
    if len(layer.param.top) != len(bottoms):
        raise error(layer, f"as many tops as bottoms, {len(bottoms)}", len(layer.param.top))
    for other in bottoms[1:]:
        if other != bottom:
            raise misfit(layer, f"every bottom of shape {bottom}", other)
    axis = canonical(layer, layer.param.convolution_param.axis, len(bottom))
    window = convolution_window(layer, len(bottom) - axis - 1)
    outputs, _ = convolution_channels(layer, bottom[axis])
    spatial = bottom[axis + 1 :]
    size = deconvolved(window, spatial) if transposed else convolved(window, spatial)
    return [(*bottom[:axis], outputs, *size)] * len(bottoms)


def _pooling(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    bottom = bottoms[0]
    if len(bottom) != 5 or not pools_volumes(layer):
        four_axes(layer, bottom)
    if len(layer.param.top) > 1 and layer.param.pooling_param.pool != layer.param.pooling_param.MAX:
        raise error(layer, "one top unless pool is MAX", len(layer.param.top))
    size = pooled(layer, pooling_window(layer, bottom[2:]), bottom[2:])
    return [(*bottom[:2], *size)] * len(layer.param.top)


def _spp(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    """One level comes out as (N, C, 1, 1), several flat and side by side (spp_layer.cpp)."""
    num, channels, *spatial = four_axes(layer, bottoms[0])
    windows = spp_windows(layer, tuple(spatial))
    if len(windows) == 1:
        return [(num, channels, 1, 1)]
    sizes = [count(pooled(layer, window, tuple(spatial))) for window in windows]
    return [(num, channels * sum(sizes))]


def _lrn(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    if layer.param.lrn_param.local_size % 2 == 0:
        raise error(layer, "an odd local_size", layer.param.lrn_param.local_size)
    return [four_axes(layer, bottoms[0])]


def _mvn(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return [legacy(layer, bottoms[0])]


def _inner_product(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    """(outer, K axes) -> (outer, num_output) (inner_product_layer.cpp)."""
    if not layer.param.inner_product_param.num_output:
        raise error(layer, "num_output larger than 0", 0)
    axis = canonical(layer, layer.param.inner_product_param.axis, len(bottoms[0]))
    return [(*bottoms[0][:axis], layer.param.inner_product_param.num_output)]


def _embed(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    param = layer.param.embed_param
    if not param.num_output or not param.input_dim:
        raise error(
            layer, "num_output and input_dim larger than 0", (param.num_output, param.input_dim)
        )
    return [(*bottoms[0], param.num_output)]


def _batch_norm(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    if len(bottoms[0]) < 2:
        raise misfit(layer, "at least 2 axes", f"shape {bottoms[0]}")
    return [bottoms[0]]


def _prelu(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    if len(bottoms[0]) < 2:
        raise misfit(layer, "at least 2 axes", f"shape {bottoms[0]}")
    legacy(layer, bottoms[0])
    return [bottoms[0]]


def _scale(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return _broadcast(
        layer, bottoms, layer.param.scale_param.axis, layer.param.scale_param.num_axes
    )


def _bias(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return _broadcast(layer, bottoms, layer.param.bias_param.axis, layer.param.bias_param.num_axes)


def _broadcast(layer: LayerSpec, bottoms: List[Shape], axis: int, num_axes: int) -> List[Shape]:
    """The bottom's own shape, once the blob or second bottom fits it from ``axis`` on."""
    bottom = bottoms[0]
    if len(bottoms) == 1:
        covered(layer, axis, num_axes, bottom)
    elif bottoms[1]:
        part = covered(layer, axis, len(bottoms[1]), bottom)
        if part != bottoms[1]:
            raise misfit(layer, f"a second bottom of shape {part}", bottoms[1])
    return [bottom]


def _softmax(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    canonical(layer, layer.param.softmax_param.axis, len(bottoms[0]))
    return [bottoms[0]]


def _eltwise(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    param = layer.param.eltwise_param
    for other in bottoms[1:]:
        if other != bottoms[0]:
            raise misfit(layer, f"every bottom of shape {bottoms[0]}", other)
    if param.coeff and len(param.coeff) != len(bottoms):
        raise error(layer, f"no coeff or {len(bottoms)}", len(param.coeff))
    if param.coeff and param.operation == param.PROD:
        raise error(layer, "no coeff with PROD", len(param.coeff))
    return [bottoms[0]]


def part_axis(layer: Named, rank: int) -> int:
    """The axis of a Concat or Slice: ``axis``, or the unsigned field of older files."""
    name, param = OLD_AXIS[layer.type], getattr(layer.param, CATALOGUE[layer.type].block)
    if not param.HasField(name):
        return canonical(layer, param.axis, rank)
    if param.HasField("axis"):
        raise error(layer, f"axis or {name}", "both")
    value: int = getattr(param, name)
    if value >= rank:
        raise misfit(layer, f"{name} below {rank}", value)
    return value


def _concat(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    first = bottoms[0]
    axis = part_axis(layer, len(first))
    for other in bottoms[1:]:
        if len(other) != len(first) or other[:axis] + other[axis + 1 :] != (
            first[:axis] + first[axis + 1 :]
        ):
            raise misfit(layer, f"every bottom like {first} but for axis {axis}", other)
    return [(*first[:axis], sum(shape[axis] for shape in bottoms), *first[axis + 1 :])]


def _slice(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    """Cut at each slice_point, or into equal parts (slice_layer.cpp)."""
    bottom, number = bottoms[0], len(layer.param.top)
    axis = part_axis(layer, len(bottom))
    points, size = list(layer.param.slice_param.slice_point), bottom[axis]
    if points:
        if len(points) != number - 1:
            raise error(layer, f"{number - 1} slice_point for {number} tops", len(points))
        if number > size:
            raise misfit(layer, f"at most {size} tops", number)
        if any(after <= before for before, after in zip([0, *points], points)):
            raise error(layer, "slice_point to rise from above 0", points)
        parts = [end - start for start, end in zip([0, *points], [*points, size])]
    elif size % number:
        raise misfit(layer, f"axis {axis} to be a multiple of {number} tops", size)
    else:
        parts = [size // number] * number
    return [(*bottom[:axis], part, *bottom[axis + 1 :]) for part in parts]


def _flatten(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    bottom, param = bottoms[0], layer.param.flatten_param
    start = canonical(layer, param.axis, len(bottom))
    end = canonical(layer, param.end_axis, len(bottom)) + 1
    if start > end:
        raise misfit(layer, f"end_axis of at least axis {start}", end - 1)
    return [(*bottom[:start], count(bottom[start:end]), *bottom[end:])]


def _reshape(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    """Replace ``num_axes`` axes from ``axis``; 0 copies, -1 infers (reshape_layer.cpp)."""
    bottom, param = bottoms[0], layer.param.reshape_param
    rank, dims = len(bottom), list(param.shape.dim)
    start = param.axis if param.axis >= 0 else rank + param.axis + 1
    if not 0 <= start <= rank:
        raise misfit(layer, f"an axis of a {rank}-D blob or the one after it", f"axis {param.axis}")
    if param.num_axes < -1:
        raise error(layer, "num_axes to be -1 or more", param.num_axes)
    end = rank if param.num_axes == -1 else start + param.num_axes
    if end > rank:
        raise misfit(layer, f"axis + num_axes of at most {rank}", end)
    if dims.count(-1) > 1:
        raise error(layer, "at most one -1 in shape", dims)
    for index, dim in enumerate(dims):
        if dim == 0:
            if start + index >= rank:
                raise misfit(layer, "a bottom axis for every 0 in shape", dims)
            dims[index] = bottom[start + index]
    if -1 in dims:
        rest = -count(dims) * count(bottom[:start]) * count(bottom[end:])
        if not rest or count(bottom) % rest:
            raise misfit(layer, f"{count(bottom)} values to be a multiple of {rest}", dims)
        dims[dims.index(-1)] = count(bottom) // rest
    top = (*bottom[:start], *dims, *bottom[end:])
    if count(checked(layer, top)) != count(bottom):
        raise misfit(layer, f"{count(bottom)} values", f"shape {top}")
    return [top]


def _crop(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    bottom, like = bottoms
    start, offsets = crop_offsets(layer, bottom)
    if len(like) < len(bottom):
        raise misfit(layer, f"a second bottom of {len(bottom)} axes", f"shape {like}")
    room = tuple(size - offset for size, offset in zip(bottom, offsets))
    if any(size > left for size, left in zip(like[start:], room[start:])):
        raise misfit(layer, f"a second bottom of at most {room} from axis {start} on", like)
    return [(*bottom[:start], *like[start : len(bottom)])]


def crop_offsets(layer: Named, bottom: Shape) -> Tuple[int, Shape]:
    """(axis, one offset per axis of ``bottom``): 0 before ``axis`` (crop_layer.cpp)."""
    rank, offsets = len(bottom), tuple(layer.param.crop_param.offset)
    start = canonical(layer, layer.param.crop_param.axis, rank)
    if len(offsets) > 1 and len(offsets) != rank - start:
        raise misfit(layer, f"0, 1 or {rank - start} offsets", len(offsets))
    if len(offsets) < 2:
        offsets = (offsets or (0,)) * (rank - start)
    return start, (0,) * start + offsets


def _arg_max(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    """Per axis: that axis becomes top_k; else (N, 1 or 2, top_k) and ones to the bottom's rank."""
    bottom, param = bottoms[0], layer.param.argmax_param
    by_axis = param.HasField("axis")
    axis = canonical(layer, param.axis, len(bottom)) if by_axis else 1
    choices = bottom[axis] if by_axis else count(bottom[1:])
    if not 1 <= param.top_k <= choices:
        raise misfit(layer, f"top_k from 1 to {choices}", param.top_k)
    if by_axis:
        return [(*bottom[:axis], param.top_k, *bottom[axis + 1 :])]
    return [(bottom[0], 2 if param.out_max_val else 1, param.top_k) + (1,) * (len(bottom) - 3)]


def _reduction(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return [bottoms[0][: canonical(layer, layer.param.reduction_param.axis, len(bottoms[0]))]]


def _tile(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    bottom, tiles = bottoms[0], layer.param.tile_param.tiles
    axis = canonical(layer, layer.param.tile_param.axis, len(bottom))
    if tiles < 1:
        raise error(layer, "tiles larger than 0", tiles)
    return [(*bottom[:axis], bottom[axis] * tiles, *bottom[axis + 1 :])]


_ANY: Range = (1, None)

RULES: Dict[str, Rule] = {
    **forks.RULES,
    "AbsVal": Rule(_same),
    "ArgMax": Rule(_arg_max),
    "BNLL": Rule(_same),
    "BatchNorm": Rule(_batch_norm),
    "Bias": Rule(_bias, bottoms=(1, 2)),
    "Clip": Rule(_same),
    "Concat": Rule(_concat, bottoms=_ANY),
    "Convolution": Rule(_convolution, bottoms=_ANY, tops=_ANY),
    "Crop": Rule(_crop, bottoms=(2, 2)),
    "Deconvolution": Rule(_deconvolution, bottoms=_ANY, tops=_ANY),
    "DepthwiseConv": Rule(_convolution, bottoms=_ANY, tops=_ANY),
    "DepthwiseConvolution": Rule(_convolution, bottoms=_ANY, tops=_ANY),
    "Dropout": Rule(_same),
    "ELU": Rule(_same),
    "Eltwise": Rule(_eltwise, bottoms=(1, None)),  # BVLC wants two; one is merged away
    "Embed": Rule(_embed),
    "Exp": Rule(_same),
    "Flatten": Rule(_flatten),
    "InnerProduct": Rule(_inner_product),
    "Input": Rule(_input, bottoms=(0, 0), tops=_ANY),
    "LRN": Rule(_lrn),
    "Log": Rule(_same),
    "MVN": Rule(_mvn),
    "PReLU": Rule(_prelu),
    "Parameter": Rule(_parameter, bottoms=(0, 0)),
    "Pooling": Rule(_pooling, tops=(1, 2)),
    "Power": Rule(_same),
    "ReLU": Rule(_same),
    "Reduction": Rule(_reduction),
    "Reshape": Rule(_reshape),
    "SPP": Rule(_spp),
    "Scale": Rule(_scale, bottoms=(1, 2)),
    "Sigmoid": Rule(_same),
    "Silence": Rule(_silence, bottoms=_ANY, tops=(0, 0)),
    "Slice": Rule(_slice, tops=_ANY),
    "Softmax": Rule(_softmax),
    "Split": Rule(_split, tops=_ANY),
    "Swish": Rule(_same),
    "TanH": Rule(_same),
    "Threshold": Rule(_same),
    "Tile": Rule(_tile),
}
