"""What is done to an image before a net reads it: mean, scale and the order of the channels.

As Caffe's data layers and pycaffe's Transformer do it, the channels change places first: mean and
scale are in the order in which the net reads the channels. For channel c of C::

    x[c] = (raw[c] - mean[c]) * scale[c]              or, swapped,
    x[c] = (raw[C - 1 - c] - mean[c]) * scale[c]
"""

import os
from typing import Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from caffe_merge.arrays import Array, ArrayLike, Float64, Shape
from caffe_merge.errors import FileError, OptionName, UsageError, WeightsError
from caffe_merge.files.places import check_file
from caffe_merge.formats.weights.blobproto import read_blob
from caffe_merge.formats.weights.wire import BYTES, Record
from caffe_merge.net import npy
from caffe_merge.wording import counted

Value = Union[None, str, ArrayLike]  # numbers, or what the command line has for them
_MEAN, _SCALE, _SWAP = OptionName("mean"), OptionName("scale"), OptionName("swap_rgb")
_DEPLOY, _SHAPE = OptionName("deploy"), OptionName("input_shape")


class Pixels(NamedTuple):
    """How the input ``name`` of C channels is made of raw pixels.

    ``mean`` is (C), or (C, H, W) where it varies over the image; ``scale`` is (C).
    """

    name: str
    mean: Float64
    scale: Float64
    swap: bool

    @property
    def is_image(self) -> bool:
        """Whether the mean varies over the image."""
        return self.mean.ndim > 1

    def of(self, raw: Array) -> Array:
        """What a net reads where the pixels are ``raw``, (N, C, H, W), in float32."""
        if raw.ndim != 4 or (self.is_image and raw.shape[1:] != self.mean.shape):
            raise UsageError(f"input {self.name!r}: its mean does not fit the shape {raw.shape}")
        ordered = raw[:, ::-1] if self.swap else raw
        mean = self.mean if self.is_image else self.mean.reshape(-1, 1, 1)
        values = (ordered.astype(np.float64) - mean) * self.scale.reshape(-1, 1, 1)
        return np.ascontiguousarray(values, np.float32)


class PixelOptions(NamedTuple):
    """What the user asks for an input; ``name`` is empty if not given. See Pixels."""

    name: str
    mean: Float64
    scale: Float64
    swap: bool

    def resolve(self, inputs: Mapping[str, Optional[Shape]]) -> Pixels:
        """The Pixels of one of the ``inputs`` (name -> shape); UsageError where it does not fit."""
        names = ", ".join(map(repr, inputs)) or "none"
        if self.name and self.name not in inputs:
            raise UsageError(f"the net has no input {self.name!r} (its inputs: {names})")
        if not inputs:
            raise UsageError(
                "no input takes pixels: data layers make their own, ", _DEPLOY, " has Input"
            )
        images = {name: shape for name, shape in inputs.items() if shape and len(shape) == 4}
        named = {self.name: inputs[self.name]} if self.name else images
        if len(named) != 1:
            raise UsageError(
                f"which input takes pixels is not clear (its inputs: {names}): name it, as in ",
                _MEAN,
                " NAME=104,117,123",
            )
        ((name, shape),) = named.items()
        if shape is None or len(shape) != 4:
            raise UsageError(f"input {name!r} has no shape of 4 axes: ", _SHAPE, " gives it one")
        channels = shape[1]
        if self.swap and channels != 3:
            raise UsageError(_SWAP, f": input {name!r} has {counted(channels, 'channel')}, not 3")
        mean = _fitted_mean(self.mean, name, shape)
        scale = self.scale.reshape(-1)
        if scale.size not in (1, channels):
            raise UsageError(_SCALE, f": expected {values_for(channels)}, found {scale.size}")
        return Pixels(name, mean, np.broadcast_to(scale, (channels,)), self.swap)


def pixel_options(
    mean: Value = None, scale: Value = None, swap_rgb: Union[bool, str] = False
) -> Optional[PixelOptions]:
    """What the user says of an input; None if he says nothing.

    A string is that of the command line: ``104,117,123``, or for the mean a file, ``.npy`` or a
    mean.binaryproto (a BlobProto); with ``NAME=`` in front it names the input. ``swap_rgb`` is
    true, or the input's name. Raises UsageError, and FileError where a file cannot be read.
    """
    if mean is None and scale is None and swap_rgb is False:
        return None
    named, means = _values(_MEAN, mean, 0.0)
    other, scales = _values(_SCALE, scale, 1.0)
    names = {named, other, swap_rgb if isinstance(swap_rgb, str) else ""} - {""}
    if len(names) > 1:
        several = f" name several inputs: {sorted(names)}"
        raise UsageError(_MEAN, ", ", _SCALE, " and ", _SWAP, several)
    if not scales.all():
        raise UsageError(_SCALE, ": expected values other than 0")
    return PixelOptions("".join(names), means, scales, swap_rgb is not False)


def _values(option: OptionName, value: Value, default: float) -> Tuple[str, Float64]:
    """The name of an input, perhaps empty, and the values of a flag."""
    name = ""
    if isinstance(value, str):
        if "=" in value:
            name, _, value = value.partition("=")
        try:
            array = np.array([float(part) for part in value.split(",")])
        except ValueError:
            if option != _MEAN or "," in value or not value:
                raise UsageError(option, f": expected numbers, found {value!r}") from None
            array = _file(value)
    else:
        try:
            array = np.asarray(default if value is None else value, np.float64)
        except (TypeError, ValueError):
            raise UsageError(option, f": expected numbers, found {value!r:.80}") from None
    if not array.size or not np.isfinite(array).all():
        raise UsageError(option, ": expected finite values")
    return name, array


def _file(path: str) -> Float64:
    """The mean in a .npy file, or in a BlobProto as compute_image_mean writes it."""
    try:
        if os.path.exists(path) and not os.path.isdir(path):  # else open() says what is wrong
            check_file(path)
        with open(path, "rb") as handle:
            data = handle.read(len(npy.MAGIC))
            if data == npy.MAGIC:
                return np.array(npy.read(path), np.float64)
            data += handle.read()
        if not data:
            raise WeightsError("it is empty")
        return read_blob(data, Record(0, BYTES, 0, 0, len(data))).float64()
    except FileError as error:
        raise FileError(_MEAN, f": {error}") from None
    except OSError as error:
        if error.strerror is None:
            raise UsageError(_MEAN, f": cannot read {path} as .npy: {error}") from None
        problem = f"{path}: {error.strerror}"
        raise FileError(_MEAN, f": expected numbers or a file, found {problem}") from None
    except (ValueError, WeightsError, MemoryError) as error:
        raise UsageError(_MEAN, f": {path} is no .npy and no mean.binaryproto: {error}") from None


def values_for(channels: int) -> str:
    """How many values may be given for so many channels: one for all, or one for each."""
    return "1 value" if channels == 1 else f"1 or {channels} values"


def _fitted_mean(mean: Float64, name: str, shape: Shape) -> Float64:
    """``mean`` as (C) or (C, H, W) for the input ``name`` of ``shape``."""
    channels = shape[1]
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.size == 1:
        return np.broadcast_to(mean.reshape(()), (channels,))
    if mean.ndim not in (1, 3) or mean.shape[0] != channels:
        raise UsageError(
            _MEAN,
            f": expected {values_for(channels)}, or an image of {shape[1:]} "
            f"for the input {name!r}, found the shape {mean.shape}",
        )
    flat = mean.reshape(channels, -1)
    if (flat == flat[:, :1]).all():
        return flat[:, 0]
    if mean.shape != tuple(shape[1:]):
        raise UsageError(
            _MEAN,
            f": an image of shape {mean.shape} does not fit the input {name!r} of "
            f"{tuple(shape[1:])}; its mean per channel does: ",
            _MEAN,
            f" {per_channel(mean)}",
        )
    return mean


def per_channel(mean: Float64) -> str:
    """The mean of each channel of an image, as the command line has it."""
    return ",".join(f"{value:.7g}" for value in mean.reshape(len(mean), -1).mean(axis=1))
