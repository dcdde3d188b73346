"""What a net is fed when it is validated: seeded noise, or the user's own arrays and shapes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Iterator, Mapping, NoReturn, Optional, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import FileError, InputShapeError, OptionName, UsageError
from caffe_merge.files.places import check_file
from caffe_merge.formats.weights.blobproto import MAX_AXES
from caffe_merge.net import npy
from caffe_merge.net.pixels import Pixels
from caffe_merge.validation.seeded import Seeded

Shapes = Dict[str, Shape]
Cost = Callable[[Shapes], Optional[float]]

SMALLER = "smaller than declared, to save time"
_SMALLEST_SIDE = 32
_DIGITS = 9  # what a dimension of Caffe's can hold for certain
_DIM = re.compile(rf"0*[1-9][0-9]{{0,{_DIGITS - 1}}}\Z")
LARGEST = 1 << 27  # values in one blob: 1 GB in float64


@dataclass(frozen=True)
class NetInput:
    """One input as it was fed: float32 values, and where they come from."""

    name: str
    array: np.ndarray
    seed: Optional[int]
    note: str = ""


def parse_shapes(options: Iterable[str]) -> Shapes:
    """Shapes from ``BLOB=1,3,32,32`` options; raises UsageError."""
    shapes = {}
    for name, value in _split(options, "input_shape", "1,3,224,224"):
        dims = [dim.strip() for dim in value.split(",")]
        if len(dims) > MAX_AXES or not all(map(_DIM.match, dims)):
            shown = value if len(value) < 80 else f"{value[:60]} ..."
            raise UsageError(
                f"input {name!r}: expected up to {MAX_AXES} positive numbers of at most "
                f"{_DIGITS} digits, like 1,3,224,224, found {shown!r}"
            )
        shapes[name] = tuple(int(dim) for dim in dims)
    return shapes


def load_files(options: Iterable[str]) -> Dict[str, np.ndarray]:
    """Float32 arrays from ``BLOB=FILE.npy`` options; raises UsageError."""
    arrays = {}
    for name, path in _split(options, "input", "FILE.npy"):
        try:
            check_file(path)
            with np.errstate(over="ignore"):  # what overflows is not finite
                arrays[name] = np.array(npy.read(path), np.float32)
        except FileError as error:  # which names the file
            raise UsageError(f"input {name!r}: {error}") from error
        except (OSError, ValueError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"input {name!r}: cannot read {path} as .npy: {reason}") from error
        if not arrays[name].size:
            raise UsageError(f"input {name!r}: {path} holds no values")
        if not np.isfinite(arrays[name]).all():
            raise UsageError(f"input {name!r}: {path} holds values that are not finite")
    return arrays


def make(
    declared: Mapping[str, Shape],
    *,
    seed: int = 0,
    scale: Optional[float] = None,
    shapes: Optional[Mapping[str, Shape]] = None,
    files: Optional[Mapping[str, np.ndarray]] = None,
    cost: Optional[Cost] = None,
    most: float = float("inf"),
    raw: Optional[Pixels] = None,
) -> Tuple[NetInput, ...]:
    """An array for every input that a net declares.

    ``files`` are used as they are; ``shapes`` replace the declared ones. Where the user says
    nothing about any input and ``cost(shapes)`` exceeds ``most`` (multiply-adds), the net runs at
    a smaller input if its layers allow one (``cost`` gives None where they do not). The input that
    ``raw`` is about gets pixels.
    """
    shapes, files = dict(shapes or {}), dict(files or {})
    for name in [*shapes, *files]:
        if name not in declared:
            refuse(name, declared)
    chosen = {name: shapes.get(name, shape) for name, shape in declared.items()}
    note = ""
    fixed = raw is not None and raw.is_image  # its mean is of one size
    if cost and not shapes and not files and not fixed:
        smaller = shrink(chosen, cost, most)
        if smaller != chosen:
            chosen, note = smaller, SMALLER
    inputs = []
    for name, shape in chosen.items():
        if name in files:
            description = "raw pixels, given" if raw is not None and name == raw.name else "given"
            array = _fitted(name, files[name], shape, name in shapes)
            inputs.append(NetInput(name, array, None, description))
            continue
        if not shape or min(shape) < 1:
            raise InputShapeError(
                f"input {name!r} has no usable shape {shape}: give ",
                *(OptionName("input_shape"), f" {name}=1,3,224,224"),
            )
        check_size(math.prod(shape))
        description = note if shape != declared[name] else ""
        if raw is not None and name == raw.name:
            array = pixels(name, shape, seed, scale)
            description = ", ".join(filter(None, ("raw pixels", description)))
        else:
            array = noise(name, shape, seed, scale)
        inputs.append(NetInput(name, array, seed, description))
    return tuple(inputs)


def refuse(name: str, declared: Iterable[str]) -> NoReturn:
    """Raise UsageError: ``name`` is no input of the net."""
    names = ", ".join(map(repr, declared)) or "none"
    raise UsageError(f"the net has no input {name!r} (its inputs: {names})")


def _fitted(name: str, array: np.ndarray, shape: Shape, exactly: bool) -> np.ndarray:
    """``array`` as float32, with an axis for the batch if it lacks one; UsageError if it is unfit.

    The batch and what comes behind the channels may be of other sizes than declared, unless it is
    to have ``exactly`` this shape.
    """
    array = np.asarray(array, np.float32)
    if not shape:
        return array
    if array.ndim == len(shape) - 1 and array.shape[:1] == shape[1:2]:
        array = array[None]
    if array.ndim != len(shape) or array.shape[1:2] != shape[1:2]:
        raise UsageError(
            f"input {name!r}: the array given has shape {array.shape}, expected {tuple(shape)}, "
            "or without the first axis"
        )
    if exactly and array.shape != tuple(shape):
        option = OptionName("input_shape")
        problem = f"input {name!r}: the array given has shape {array.shape}, but "
        raise UsageError(problem, option, f" says {tuple(shape)}")
    return array


def check_size(largest: int) -> None:
    """Raise InputShapeError where a net's largest blob has too many values to run it."""
    if largest > LARGEST:
        raise InputShapeError(
            f"a blob of {largest} values is too large to run here; give a smaller ",
            OptionName("input_shape"),
        )


def noise(name: str, shape: Shape, seed: int, scale: Optional[float] = None) -> np.ndarray:
    """Seeded float32 noise of standard deviation ``scale``, different for every blob name.

    What looks like an image (4-D, 1 or 3 channels) gets patches plus grain at a pixel's range, 60
    by default: white noise averages out in the first layers and leaves the deep ones unexcited.
    Anything else is standard normal.
    """
    draws = Seeded("input", name, int(seed))
    grain = draws.normal(shape)
    if len(shape) != 4 or shape[1] not in (1, 3):
        return np.asarray(grain * np.float32(1 if scale is None else scale))
    rows, columns = shape[2], shape[3]
    coarse = draws.normal((*shape[:2], -(-rows // 8), -(-columns // 8)))
    patches = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :rows, :columns]
    deviation = np.float32(60 if scale is None else scale)
    return np.asarray((0.8 * patches + 0.6 * grain) * deviation, np.float32)


def pixels(name: str, shape: Shape, seed: int, scale: Optional[float] = None) -> np.ndarray:
    """Seeded noise of ``shape``, (N, C, H, W), in the range of pixels: 0 to 255, around 128."""
    single_channel = (shape[0], 1, *shape[2:])
    channels = [
        noise(f"{name} {number}", single_channel, seed, scale or 60) for number in range(shape[1])
    ]
    values: np.ndarray = np.clip(128 + np.concatenate(channels, axis=1), 0, 255)
    return values


def shrink(shapes: Shapes, cost: Cost, most: float) -> Shapes:
    """The largest variant of ``shapes`` that costs at most ``most``, or the cheapest allowed."""
    full = cost(shapes)
    if full is None or full <= most:
        return shapes
    best, best_cost = shapes, full
    for candidate in _smaller(shapes):
        price = cost(candidate)
        if price is None or price >= best_cost:
            continue
        best, best_cost = candidate, price
        if price <= most:
            break
    return best


def _smaller(shapes: Shapes) -> Iterator[Shapes]:
    """One sample first, then halved sides: sides stay multiples of 32 for the nets' strides."""
    single = {n: (1, *shape[1:]) if len(shape) == 4 else shape for n, shape in shapes.items()}
    for start in (single, shapes):
        for factor in (1, 2, 4, 8):
            yield {name: _divided(shape, factor) for name, shape in start.items()}


def _divided(shape: Shape, factor: int) -> Shape:
    if len(shape) != 4 or factor == 1:
        return shape
    step = _SMALLEST_SIDE
    sides = [min(side, max(step, side // factor // step * step)) for side in shape[2:]]
    return (*shape[:2], *sides)


def _split(options: Iterable[str], name: str, example: str) -> Iterator[Tuple[str, str]]:
    """Blob and value of each of ``options``, given by the option ``name``; UsageError."""
    for option in options:
        blob, _, value = option.partition("=")
        if not blob or not value:
            raise UsageError(OptionName(name), f": expected BLOB={example}, found {option!r}")
        yield blob, value
