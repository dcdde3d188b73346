"""Axes, counts and sliding windows: the arithmetic that Caffe's layers share."""

from math import prod
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from caffe_merge.arrays import Shape
from caffe_merge.errors import NetError, ShapeError, SizeError
from caffe_merge.layers.fork_fields import SIDES
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.wording import counted

Named = Union[Layer, LayerSpec]  # where the text of BVLC's fields is all that counts
Range = Tuple[int, Optional[int]]  # least and most; None is no limit


class Rule(NamedTuple):
    """How to compute a type's top shapes, and how many bottoms and tops Caffe lets it have."""

    function: Callable[[LayerSpec, List[Shape]], Optional[List[Shape]]]
    bottoms: Range = (1, 1)
    tops: Range = (1, 1)


MAX_AXES = 32
MAX_COUNT = 2**31 - 1  # Caffe counts in int


def error(layer: Named, expected: str, actual: object) -> NetError:
    """What Caffe would abort on, as one line: a text that no Caffe could make sense of."""
    return NetError(f"layer {layer.name!r} ({layer.type}): expected {expected}, found {actual}")


def size_error(layer: Named, expected: str, actual: object) -> SizeError:
    """The same where it is the sizes of the bottoms that no Caffe could make sense of."""
    return SizeError(f"layer {layer.name!r} ({layer.type}): expected {expected}, found {actual}")


def misfit(layer: Named, expected: str, actual: object) -> ShapeError:
    """The same where the shape of a bottom does not fit: a fork's rule may be another."""
    return ShapeError(
        f"layer {layer.name!r} ({layer.type})", f"expected {expected}, found {actual}"
    )


def checked(layer: LayerSpec, shape: Shape) -> Shape:
    """Return ``shape`` if a Caffe blob can have it (Blob::Reshape in blob.cpp).

    A dimension may be 0; the product of the dimensions before a 0 must still fit an int.
    """
    if len(shape) > MAX_AXES:
        raise error(layer, f"at most {MAX_AXES} axes", len(shape))
    if min(shape, default=1) > 0 and prod(shape) <= MAX_COUNT:  # as good as always
        return shape
    total = 1
    for size in shape:
        if size < 0:
            raise size_error(layer, "no negative dimension", f"shape {shape}")
        total *= size
        if total > MAX_COUNT:
            raise size_error(layer, f"at most {MAX_COUNT} values in a blob", f"shape {shape}")
    return shape


def canonical(layer: Named, axis: int, rank: int) -> int:
    """``axis`` counted from the front, for a blob of ``rank`` axes (Blob::CanonicalAxisIndex)."""
    if not -rank <= axis < rank:
        raise misfit(layer, f"an axis of a {rank}-D blob", f"axis {axis}")
    return axis + rank if axis < 0 else axis


def four_axes(layer: LayerSpec, bottom: Shape) -> Shape:
    """``bottom`` as (N, C, H, W), for the layers that take nothing else."""
    if len(bottom) != 4:
        raise misfit(layer, "a 4-D bottom", f"shape {bottom}")
    return bottom


def legacy(layer: LayerSpec, bottom: Shape) -> Shape:
    """``bottom`` as num(), channels(), height(), width() see it: at most 4 axes, 1 where absent."""
    if len(bottom) > 4:
        raise misfit(layer, "at most 4 axes", f"shape {bottom}")
    return bottom + (1,) * (4 - len(bottom))


class Window(NamedTuple):
    """A sliding window: one entry per spatial axis in each field.

    ``pad`` is before the input, ``pad_end`` behind it: in BVLC's layers they are equal.
    """

    kernel: Shape
    stride: Shape
    pad: Shape
    pad_end: Shape
    dilation: Shape

    @property
    def pads(self) -> Shape:
        """How much longer the padded input is."""
        return tuple(before + behind for before, behind in zip(self.pad, self.pad_end))

    @property
    def extent(self) -> Shape:
        """How far a window reaches: dilation * (kernel - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))


def _per_axis(layer: LayerSpec, name: str, spatial: int, default: Optional[int]) -> Shape:
    """A field of ConvolutionParameter given never, once, or once per spatial axis."""
    values = tuple(getattr(layer.param.convolution_param, name))
    if len(values) == spatial:
        return values
    if len(values) == 1:
        return values * spatial
    if not values and default is not None:
        return (default,) * spatial
    wrong = misfit if values else error
    raise wrong(layer, f"{name} once or {spatial} times", counted(len(values), "time"))


def _pair_or_per_axis(layer: LayerSpec, name: str, spatial: int, default: Optional[int]) -> Shape:
    """The same field, or its _h and _w (2 spatial axes only; the absent one counts 0)."""
    param = layer.param.convolution_param
    short = "kernel" if name == "kernel_size" else name
    if not (param.HasField(short + "_h") or param.HasField(short + "_w")):
        return _per_axis(layer, name, spatial, default)
    if spatial != 2:
        raise misfit(layer, f"{short}_h and {short}_w with 2 spatial axes only", spatial)
    if getattr(param, name):
        raise error(layer, f"{name} or {short}_h and {short}_w", "both")
    return (getattr(param, short + "_h"), getattr(param, short + "_w"))


def convolution_window(layer: LayerSpec, spatial: int) -> Window:
    """The window of a Convolution or Deconvolution over ``spatial`` axes (base_conv_layer.cpp)."""
    pads = _fork_pads(layer, "convolution_param", spatial)
    key = layer.param.convolution_param.SerializePartialToString(), spatial, pads
    cached = _WINDOWS.get(key)
    if cached is not None:
        return cached
    kernel = _pair_or_per_axis(layer, "kernel_size", spatial, None)
    stride = _pair_or_per_axis(layer, "stride", spatial, 1)
    pad = _pair_or_per_axis(layer, "pad", spatial, 0)
    dilation = _per_axis(layer, "dilation", spatial, 1)
    window = Window(kernel, stride, *(pads or (pad, pad)), dilation)
    if 0 in window.kernel:
        raise error(layer, "a kernel larger than 0 on every axis", window.kernel)
    if 0 in window.stride:
        raise error(layer, "a stride larger than 0 on every axis", window.stride)
    _WINDOWS[key] = window
    return window


# A net has few, and asks for each many times.
_WINDOWS: Dict[Tuple[bytes, int, Optional[Tuple[Shape, Shape]]], Window] = {}


def _fork_pads(layer: LayerSpec, block: str, spatial: int) -> Optional[Tuple[Shape, Shape]]:
    """Synopsys' pad_t and pad_l before the input, pad_b and pad_r behind (base_conv_layer.cpp).

    None where they are all 0: then BVLC's pad counts.
    """
    fields = layer.fork
    if not fields:
        return None
    top, bottom, left, right = (fields.integer(f"{block}.{name}", 0) for name in SIDES)
    if not (top or bottom or left or right):
        return None
    if spatial != 2:
        raise misfit(layer, "pad_l, pad_r, pad_t and pad_b with 2 spatial axes only", spatial)
    return (top, left), (bottom, right)


def convolution_channels(layer: LayerSpec, channels: Optional[int]) -> Tuple[int, int]:
    """(num_output, group) of a Convolution or Deconvolution that reads ``channels`` channels."""
    param = layer.param.convolution_param
    outputs, group = param.num_output, param.group
    if not outputs:
        raise error(layer, "num_output larger than 0", outputs)
    if not group:
        raise error(layer, "group larger than 0", group)
    if outputs % group:
        raise error(layer, f"num_output to be a multiple of group {group}", outputs)
    if channels is not None and channels % group:
        raise misfit(layer, f"channels to be a multiple of group {group}", channels)
    return outputs, group


def convolved(window: Window, spatial: Shape) -> Shape:
    """Output size trunc((in + pads - extent) / stride) + 1 per axis (conv_layer.cpp).

    C's division rounds towards 0: a window that sticks out of the padded input by less than one
    stride is still placed once.
    """
    sizes = []
    for size, stride, pads, extent in zip(spatial, window.stride, window.pads, window.extent):
        room = size + pads - extent
        sizes.append((room // stride if room >= 0 else -(-room // stride)) + 1)
    return tuple(sizes)


def sticks_out(window: Window, spatial: Shape) -> bool:
    """Whether a window is larger than the padded input, which `convolved` places all the same."""
    return any(
        size + pads < extent for size, pads, extent in zip(spatial, window.pads, window.extent)
    )


def deconvolved(window: Window, spatial: Shape) -> Shape:
    """Output size stride * (in - 1) + extent - pads per axis (deconv_layer.cpp)."""
    return tuple(
        stride * (size - 1) + extent - pads
        for size, stride, pads, extent in zip(spatial, window.stride, window.pads, window.extent)
    )


def pooling_window(layer: LayerSpec, spatial: Shape) -> Window:
    """The window of a Pooling layer over (H, W) (pooling_layer.cpp), or three axes (ECO's)."""
    param, rank = layer.param.pooling_param, len(spatial)
    kernel = _pooling_sizes(layer, "kernel_size", rank)
    if param.global_pooling:
        if kernel is not None:
            raise error(layer, "no kernel size with global_pooling", "one")
        kernel = spatial
    elif kernel is None:
        raise error(layer, "kernel_size, or kernel_h and kernel_w", "neither")
    pad = _pooling_sizes(layer, "pad", rank) or (0,) * rank
    stride = _pooling_sizes(layer, "stride", rank) or (1,) * rank
    if param.global_pooling and (any(pad) or {*stride} != {1}):
        raise error(layer, "pad 0 and stride 1 with global_pooling", f"pad {pad}, stride {stride}")
    if 0 in kernel:
        raise error(layer, "a kernel larger than 0 on every axis", kernel)
    if 0 in stride:
        raise error(layer, "a stride larger than 0 on every axis", stride)
    pads = _fork_pads(layer, "pooling_param", rank) or (pad, pad)
    if any(any(side) for side in pads):
        if param.pool == param.STOCHASTIC:
            raise error(layer, "no pad with STOCHASTIC pooling", pads[0])
        if any(before >= size for before, size in zip(pads[0], kernel)):
            raise error(layer, f"a pad smaller than the kernel {kernel}", pads[0])
    return Window(kernel, stride, *pads, (1,) * rank)


def pools_volumes(layer: LayerSpec) -> bool:
    """Whether it says that it pools over three axes, or over all that there are."""
    sizes = layer.fork.integers("pooling_param.kernel_size")
    return bool(layer.param.pooling_param.global_pooling) or len(sizes) == 3


def pooling_pads(layer: LayerSpec) -> bool:
    """Whether a Pooling layer pads at all, whatever the size and rank of its input."""
    param, fields = layer.param.pooling_param, layer.fork
    sides = [fields.integer("pooling_param." + side, 0) for side in SIDES]
    pads = (param.pad, param.pad_h, param.pad_w, *fields.integers("pooling_param.pad"))
    return any((*pads, *sides))


def pooling_overruns(layer: LayerSpec, rank: Optional[int] = None) -> bool:
    """Whether a Pooling over ``rank`` axes may have a last window that holds no place of its input.

    Where the rank is not known it is that of the kernel in the text, two axes if that has one size.
    So it is where the stride is larger than the kernel and sizes are rounded up: a mean there is
    0 / 0, a maximum what Caffe starts from (pooling_layer.cpp).
    """
    param = layer.param.pooling_param
    if param.global_pooling or param.round_mode != param.CEIL:
        return False
    axes = rank or len(layer.fork.integers("pooling_param.kernel_size")) or 2
    kernel = _pooling_sizes(layer, "kernel_size", axes) or (1,) * axes
    stride = _pooling_sizes(layer, "stride", axes) or (1,) * axes
    return any(step > size for step, size in zip(stride, kernel))


def _pooling_sizes(layer: LayerSpec, name: str, rank: int) -> Optional[Shape]:
    """Kernel, pad or stride: one value for all axes, both _h and _w, or a fork's one for each.

    None where it is not given.
    """
    param = layer.param.pooling_param
    short = "kernel" if name == "kernel_size" else name
    sides = param.HasField(short + "_h"), param.HasField(short + "_w")
    several = layer.fork.integers("pooling_param." + name)
    if any(sides):
        if short == "kernel" and param.HasField(name) and not all(sides):
            return (getattr(param, name),) * rank  # Caffe does not look at the one side
        if not all(sides) or param.HasField(name):
            sides_given = "both" if param.HasField(name) else "one of these"
            raise error(layer, f"{name}, or {short}_h and {short}_w", sides_given)
        several = (getattr(param, short + "_h"), getattr(param, short + "_w"))
    if several:
        if len(several) != rank:
            raise misfit(layer, f"{short} of {rank} spatial axes", several)
        return several
    return (getattr(param, name),) * rank if param.HasField(name) else None


def pooled(layer: LayerSpec, window: Window, spatial: Shape) -> Shape:
    """Output size ceil((in + pads - kernel) / stride) + 1, or floor (pooling_layer.cpp).

    With a pad on either axis, a last window that would start beyond input and first pad is dropped;
    over three axes only on those that are padded (ECO's pooling_layer.cpp).
    """
    up = layer.param.pooling_param.round_mode == layer.param.pooling_param.CEIL
    sizes = []
    for size, kernel, stride, pad, pads in zip(
        spatial, window.kernel, window.stride, window.pad, window.pads
    ):
        room = size + pads - kernel
        windows = (-(-room // stride) if up else room // stride) + 1
        padded = any(window.pads) if len(spatial) == 2 else pads > 0
        if padded and (windows - 1) * stride >= size + pad:
            windows -= 1
        sizes.append(windows)
    return tuple(sizes)


def spp_windows(layer: LayerSpec, spatial: Shape) -> List[Window]:
    """The windows of an SPP layer: level i cuts (H, W) into 2^i by 2^i bins (spp_layer.cpp).

    kernel = stride = ceil(size / bins), pad = ceil((kernel * bins - size) / 2)
    """
    levels = layer.param.spp_param.pyramid_height
    if not levels or 0 in spatial:
        raise size_error(layer, "pyramid_height, H and W larger than 0", (levels, *spatial))
    windows = []
    for level in range(levels):
        bins = 2**level
        kernel = tuple(-(-size // bins) for size in spatial)
        pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, spatial))
        if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
            raise misfit(layer, f"(H, W) that {bins} bins of {kernel} can cover", spatial)
        windows.append(Window(kernel, kernel, pad, pad, (1, 1)))
    return windows


def covered(layer: LayerSpec, axis: int, num_axes: int, bottom: Shape) -> Shape:
    """The part of ``bottom`` that a Scale or Bias blob has: ``num_axes`` axes, -1 for the rest."""
    start = canonical(layer, axis, len(bottom))
    if num_axes < -1:
        raise error(layer, "num_axes to be -1 or more", num_axes)
    if start + num_axes > len(bottom):
        raise misfit(layer, f"axis + num_axes of at most {len(bottom)}", start + num_axes)
    return bottom[start:] if num_axes == -1 else bottom[start : start + num_axes]
