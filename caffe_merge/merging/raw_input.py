"""Raw pixels as a net's input: the preprocessing becomes layers, which passes then fold.

    data -> Bias (-mean) -> Scale (scale) -> Convolution 1x1 (swaps channels) -> the old net

The net then computes on raw pixels what it computed on preprocessed ones. The layers are like any
others: those that no pass folds are left, which is an error unless the user allows it. A Bias that
is left becomes a Scale.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from caffe_merge.errors import OptionName, UsageError
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers.layer import Layer
from caffe_merge.merging.report import Refusal, Report
from caffe_merge.merging.rewiring import free_name
from caffe_merge.net.graph import Graph, Version
from caffe_merge.net.loading import Net
from caffe_merge.net.pixels import Pixels, per_channel, pixel_options
from caffe_merge.notes import Note
from caffe_merge.options import Options

_TELLING = (
    "fold-swap",
    "fold-image",
    "fold-forward",
)  # passes whose reasons say what is in the way


class RawInput:
    """The layers that were inserted, and why passes did not fold them."""

    def __init__(self, pixels: Pixels, layers: Sequence[Layer]) -> None:
        self.pixels = pixels
        self.layers = layers
        self._reasons: Dict[Layer, str] = {}

    def add_refusals(self, refusals: Mapping[Layer, List[Refusal]]) -> None:
        """Keep the first reason for each layer: a later round may refuse it for another."""
        for layer in self.layers:
            for refusal in refusals.get(layer, ()):
                if refusal.rewrite in _TELLING:
                    reason = refusal.reason
                    self._reasons.setdefault(layer, reason.cause or reason)

    def finish(self, net: Net, report: Report, may_stay: bool) -> None:
        """Write the new input into the report. Raises UsageError where a layer must not stay."""
        pixels = self.pixels
        left = [layer for layer in self.layers if layer in net.all_layers]
        if left and not may_stay:
            raise self._error(left[0])
        for layer in left:
            if layer.type == "Bias":
                _become_scale(layer)
        done = "(x - mean) * scale" + (", channels reversed," if pixels.swap else "")
        text = f"the input {pixels.name!r} takes raw pixels now: {done} is in the weights"
        if left:
            kept = " and ".join(f"{layer.type} {layer.name!r}" for layer in left)
            text += f" and in {kept} on the input"
        report.notes.append(Note("raw-input", "", text))
        report.input = {
            "name": pixels.name,
            "mean": None if pixels.is_image else pixels.mean.tolist(),
            "scale": pixels.scale.tolist(),
            "swap_rgb": pixels.swap,
            "layers": [layer.name for layer in left],
        }

    def _error(self, layer: Layer) -> UsageError:
        reason = self._reasons.get(layer, "no pass that was asked for takes it in")
        pixels = f"input {self.pixels.name!r}: what is done to its pixels cannot be folded"
        parts = [f"{pixels}: {reason}; ", OptionName("input_layer")]
        kind = "Scale" if layer.type == "Bias" else layer.type
        parts.append(f" keeps a {kind} on the input")
        if self.pixels.is_image and layer.type == "Bias":
            parts += ["; a mean per channel may fold: ", OptionName("mean")]
            parts.append(f" {per_channel(self.pixels.mean)}")
        return UsageError(*parts)


def fitted(graph: Graph, options: Options) -> Tuple[Pixels, Version]:
    """What is asked of pixels, and the input of ``graph`` that it is for.

    Raises UsageError where it does not fit the net, FileError for a mean that cannot be read.
    """
    requested = pixel_options(options.mean, options.scale, options.swap_rgb)
    assert requested is not None
    tops = [top for layer in graph.layers if layer.type == "Input" for top in graph.tops[layer]]
    pixels = requested.resolve({top.name: top.shape for top in tops})
    if any(output.name == pixels.name for output in graph.outputs):
        raise UsageError(
            f"input {pixels.name!r} is a net output too, and keeps its name and values"
        )
    return pixels, next(top for top in tops if top.name == pixels.name)


def insert_layers(net: Net, graph: Graph, options: Options) -> RawInput:
    """Insert the layers of the preprocessing behind the net's input; ``graph`` is outdated then.

    Raises as ``fitted`` does.
    """
    pixels, source = fitted(graph, options)
    taken = {layer.name for layer in net.all_layers}
    taken.update(top for layer in net.all_layers for top in layer.param.top)
    layers: List[Layer] = []
    name = pixels.name
    for param, values in _steps(pixels):
        param.name = free_name(f"{pixels.name}_{param.name}", taken)
        param.bottom.append(name)
        param.top.append(param.name)
        layer = Layer(param, phase=net.state.phase)
        layer.original = None
        layer.blobs = (Dense(values),)
        layers.append(layer)
        name = str(param.name)
    _rename(net.layers[net.layers.index(source.producer) + 1 :], pixels.name, name)
    at = net.all_layers.index(source.producer) + 1
    net.all_layers[at:at] = layers
    return RawInput(pixels, layers)


def _steps(pixels: Pixels) -> List[Tuple[Any, Any]]:
    """Parameters (named by what they do) and values of each layer; the channels swap last."""
    order = slice(None, None, -1 if pixels.swap else 1)
    mean, scale = pixels.mean[order], pixels.scale[order]
    steps: List[Tuple[Any, Any]] = []
    if mean.any():
        param = LayerParameter(name="mean", type="Bias")
        if pixels.is_image:
            param.bias_param.num_axes = mean.ndim
        steps.append((param, -mean))
    if (scale != 1).any():
        steps.append((LayerParameter(name="scale", type="Scale"), scale))
    if pixels.swap:
        param = LayerParameter(name="swap", type="Convolution")
        conv_param = param.convolution_param
        conv_param.num_output = len(scale)
        conv_param.bias_term = False
        conv_param.kernel_size.append(1)
        steps.append((param, np.eye(len(scale))[::-1].reshape(len(scale), -1, 1, 1)))
    return steps


def _become_scale(layer: Layer) -> None:
    """Turn a Bias into a Scale of ones with a bias: many readers of Caffe files have no Bias."""
    (bias,) = layer.blobs
    layer.param.type = "Scale"
    layer.param.scale_param.bias_term = True
    if layer.param.bias_param.HasField("num_axes"):
        layer.param.scale_param.num_axes = layer.param.bias_param.num_axes
    layer.param.ClearField("bias_param")
    layer.blobs = (Dense(np.ones(bias.shape)), bias)


def _rename(layers: Sequence[Layer], old: str, new: str) -> None:
    """Call a blob ``new`` in ``layers``, those that write it in place included."""
    for layer in layers:
        for names in (layer.param.bottom, layer.param.top):
            names[:] = [new if name == old else name for name in names]
