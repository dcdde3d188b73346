"""What layers that are not as they were make of impulses, in the old net and in the new one.

On an image one weight is one of hundreds that make a value: what is wrong with it can be below the
limit there, though on other images it is not. So wherever both nets hold the same values (a cut),
both are given the same impulses, and what they make of them must be the same at the next cut, in
each channel by itself:

    y(impulse) - y(0)    relative to the largest one of the channel
    y(0)                 relative to itself, or to what impulses of 1/64 make where that is more

The limit is that of blobs, and is raised by rounding noise likewise. A channel that is 0 but for
rounding, as where large values cancel out, is not judged. Only layers that one net has and the
other has not are computed, and their weights are at hand anyway: it takes little time.
"""

from typing import (
    AbstractSet,
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
)

import numpy as np

from caffe_merge import reference
from caffe_merge.errors import CaffeMergeError
from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers import signs
from caffe_merge.layers.catalogue import (
    AFFINE,
    CONVOLUTION,
    DEPTHWISE,
    DROPOUT,
    MOVING,
    NORM,
    WINDOWED,
    of_family,
)
from caffe_merge.layers.layer import shares_memory
from caffe_merge.layers.shapes.geometry import convolution_window
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.notes import Reason
from caffe_merge.validation import impulses
from caffe_merge.validation.dropped import Kept, kept_response
from caffe_merge.validation.impulses import ImpulseResponse
from caffe_merge.validation.response import Response
from caffe_merge.validation.run import Form, Program, Version, Weights, float64_weights

_AFFINE = frozenset(of_family(NORM, AFFINE, DROPOUT, MOVING)) | impulses.LINEAR
_CONVOLUTIONS = frozenset(of_family(CONVOLUTION, DEPTHWISE))
_WINDOWED = frozenset(WINDOWED)
_MOST_WORK = 1 << 28  # multiply-adds of a layer for responses to other sizes


class Side(NamedTuple):
    """A net, and what those of its layers that the other net has not make of impulses."""

    program: Program
    impulse_responses: Mapping[int, Optional[ImpulseResponse]]


class Responses:
    """The responses of a net at its ``cuts`` and between them, layer by layer, as far as can be.

    ``kept`` are the channels of a cut in which the impulses are, where these are not all.
    ``weights(layer, blobs)`` may replace float64 weights. At ``positive`` versions nothing is ever
    negative, and no impulse is.
    """

    def __init__(
        self,
        side: Side,
        cuts: AbstractSet[Version],
        kept: Optional[Mapping[Version, Kept]] = None,
        weights: Optional[Weights] = None,
        positive: AbstractSet[Version] = frozenset(),
    ) -> None:
        self.side = side
        self.positive = positive
        self.cuts = set(cuts)
        self.kept = dict(kept or {})
        self._weights = weights
        self._at: Dict[Version, Response] = {}  # at cuts
        self._held: Dict[Version, Response] = {}  # between them
        # Versions at which impulses are given, and what has their values in another shape.
        self._roots = {version: version for version in cuts}
        self._behind: Dict[int, ImpulseResponse] = {}  # by cut
        self._next = 0

    def get(self, version: Version) -> Optional[Response]:
        """The response of a version, while it is needed."""
        return self._at.get(version) or self._held.get(version)

    def advance(self, index: int) -> None:
        """Follow the net to the layer ``index``, which may be behind already."""
        while self._next <= index:
            self.step(self._next)
            self._next += 1

    def forget(self, index: int) -> None:
        """Drop the responses at cuts in front of the layer ``index``: nothing is made of them."""
        for version in [version for version in self._at if version[1] < index]:
            del self._at[version]

    def step(self, index: int) -> None:
        """Follow one layer."""
        layer = self.side.program.layers[index]
        reads = self.side.program.plan.reads[index]
        if shares_memory(layer) and reads[0] in self._roots:
            for top in layer.param.top:
                self._roots.setdefault((top, index), self._roots[reads[0]])
            return
        for top, response in zip(layer.param.top, self._tops(index)):
            held = self._at if (top, index) in self.cuts else self._held
            held[top, index] = response
        needed = self.side.program.plan.needed
        for name, written in [v for v in self._held if needed[v[0]] <= index]:
            del self._held[name, written]

    def impulses_behind(
        self, version: Version, kept: Optional[Kept] = None
    ) -> Optional[Dict[int, ImpulseResponse]]:
        """What all layers that read ``version`` make of impulses in its channels that are kept.

        None where not all can be given them, or ``version`` is not of the last layer.
        """
        if version[1] != self._next - 1 or version not in self._held:
            return None
        behind: Dict[int, ImpulseResponse] = {}
        for index, reads in enumerate(self.side.program.plan.reads):
            response = self._impulse_response(index, kept) if version in reads else None
            if version in reads and response is None:
                return None
            if response is not None:
                behind[index] = response
        return behind

    def cut(
        self, version: Version, behind: Mapping[int, ImpulseResponse], kept: Optional[Kept] = None
    ) -> None:
        """Make ``version`` a cut, with what impulses_behind has found."""
        if kept is not None:
            self.kept[version] = kept
        self._behind.update(behind)
        self.cuts.add(version)
        self._roots[version] = version
        self._at[version] = self._held.pop(version)

    def follow_one_size(self, version: Version) -> None:
        """Follow ``version`` for impulses of one size alone."""
        if version in self._held:
            self._held[version] = self._held[version].of_one_size()

    def _tops(self, index: int) -> Iterator[Response]:
        """What a layer makes of responses, or of impulses at a root; else nothing."""
        reads = self.side.program.plan.reads[index]
        if len(reads) == 1 and reads[0] in self._roots:
            root = self._roots[reads[0]]
            response = self._behind.get(index) or self._impulse_response(index, self.kept.get(root))
            if response is not None:
                positive = root in self.positive
                yield Response(root, response.taps, response.values, positive=positive)
            return
        followed = [self._held[version] for version in reads if version in self._held]
        if not reads or len(followed) < len(reads) or len({r[:2] for r in followed}) > 1:
            return
        layers, forms, _ = self.side.program
        yield from _followed(layers[index], forms[index], followed, self._weights)

    def _impulse_response(self, index: int, kept: Optional[Kept]) -> Optional[ImpulseResponse]:
        """What a layer makes of impulses, if it is linear and the other net has it not."""
        response = self.side.impulse_responses.get(index)
        if response is None or (self._weights is None and kept is None):
            return response
        layers, forms, _ = self.side.program
        form = forms[index]
        assert not isinstance(form, Reason)
        param = form[0].param
        blobs = float64_weights(layers[index], form[1], self._weights)
        if kept is None:
            return impulses.impulse_response(param, blobs, response.rank)
        return kept_response(param, blobs, response.rank, kept)


def never_negative(side: Side) -> Set[Version]:
    """The versions of a net that hold nothing negative, whatever it is fed."""
    versions: Set[Version] = set()
    for index, layer in enumerate(side.program.layers):
        bottoms = [version in versions for version in side.program.plan.reads[index]]
        if signs.never_negative(layer, bottoms, None) is not None:
            versions.update((top, index) for top in layer.param.top)
    return versions


def _followed(
    layer: Any, form: Form, bottoms: Sequence[Response], weights: Optional[Weights]
) -> Iterator[Response]:
    """What a layer makes of responses; nothing where it cannot be told."""
    if isinstance(form, Reason):
        return
    spec, stored = form
    is_linear = spec.type in impulses.LINEAR
    if is_linear:
        bottoms = [bottom.fewer() for bottom in bottoms]
    if any(bottom.scaled is not None for bottom in bottoms) or not _is_affine(spec, len(bottoms)):
        bottoms = [bottom.with_scaled() for bottom in bottoms]
    try:
        blobs = float64_weights(layer, stored, weights)
        scaled = [len(bottom.scaled) for bottom in bottoms if bottom.scaled is not None]
        work = sum(scaled) * sum(blob.size for blob in blobs) if is_linear else 0
        if work > _MOST_WORK or not all(scaled):
            bottoms = [bottom.of_one_size() for bottom in bottoms]
        tops = _forward(spec, blobs, [bottom.rows() for bottom in bottoms])
    except (CaffeMergeError, ArithmeticError, LookupError, ValueError):
        return  # it has no such sizes: what it does is seen where it runs
    for top in tops:
        yield bottoms[0].with_rows(top)


def _is_affine(spec: LayerSpec, bottoms: int) -> bool:
    """Whether each value that a layer makes is a sum of what it reads; of some it is not told."""
    param = spec.param
    if spec.type == "Power":
        return bool(param.power_param.power == 1)
    if spec.type == "Eltwise":
        return bool(param.eltwise_param.operation == param.eltwise_param.SUM)
    return spec.type == "Concat" or (spec.type in _AFFINE and bottoms == 1)


def _forward(
    spec: LayerSpec, blobs: Sequence[np.ndarray], bottoms: Sequence[np.ndarray]
) -> List[np.ndarray]:
    if spec.type in _WINDOWED:
        spec = _without_padding(spec)
        bottoms = [_spread(spec, bottom) for bottom in bottoms]
    return reference.forward(spec, blobs, bottoms)


def _without_padding(spec: LayerSpec) -> LayerSpec:
    """The same layer on what reaches over its borders: all of its taps read a value."""
    param = copied(spec.param)
    for field in ("pad", "pad_h", "pad_w"):
        param.convolution_param.ClearField(field)
    sides = {f"convolution_param.pad_{side}" for side in "lrtb"}
    fork = {name: text for name, text in spec.fork.texts.items() if name not in sides}
    return LayerSpec(param, fork)


def _spread(spec: LayerSpec, values: np.ndarray) -> np.ndarray:
    """Responses as a convolution can read them: the same all over its window."""
    if spec.type not in _CONVOLUTIONS or any(n != 1 for n in values.shape[2:]):
        return values
    window = convolution_window(spec, values.ndim - 2)
    return np.broadcast_to(values, (*values.shape[:2], *window.extent))
