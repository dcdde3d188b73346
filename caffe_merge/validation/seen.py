"""Which rewrites a comparison sees: what would move if the weights of a layer were wrong.

The mutant of a layer has wrong weights: each by a hundredth of itself, up or down by a seeded sign,
or by ten times the limit if that is more (in half precision the limit is a hundredth). One layer at
a time, what depends on it is computed anew up to the first blobs that are compared. If one of these
moves beyond its limit, the layer is seen.

In a layer that is linear in its weights, all weights of an output channel have one sign. Then no
product is needed: the mutant of y = W x + b, wrong by a hundredth, is y +- (y - b) / 100. Of a
convolution that reads a mutant a few channels are computed first: they are enough if they move.
"""

from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.layers.catalogue import CONVOLUTION, DECONVOLUTION, PRODUCT, of_family
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.validation.run import Plan, Run, Step
from caffe_merge.validation.seeded import Seeded

_WRONG_BY = 1e-2
_TIMES_LIMIT = 10
_LINEAR = of_family(CONVOLUTION, DECONVOLUTION, PRODUCT)
_FEW = 16  # channels


def wrong_by(limit: float) -> float:
    """By which part of itself each weight of a mutant is wrong, for this limit of blobs."""
    return max(_WRONG_BY, _TIMES_LIMIT * limit)


class Seen(NamedTuple):
    """A changed layer of the new net; ``blob`` moves by ``moved`` if the layer's weights are wrong.

    ``moved`` is relative to the blob's largest value, and of some of its channels if these are
    enough. ``blob`` is "" if none moves.
    """

    layer: str
    blob: str
    moved: float


class Mutants:
    """The blobs of a run as they would be if one layer's weights were wrong, layer by layer.

    Weights are wrong by ``wrong``, a part of themselves: see wrong_by.
    """

    def __init__(self, run: Run, rewritten: Iterable[int], wrong: float) -> None:
        self.run = run
        self._wrong_by = wrong
        self._open = set(rewritten)  # layers that nothing has seen
        self._wrong: Dict[str, Dict[int, Mutant]] = {}  # blob -> layer -> what it would hold
        self.best: Dict[int, Tuple[str, float]] = dict.fromkeys(self._open, ("", 0.0))

    def step(self, index: int, step: Optional[Step]) -> None:
        """Follow the mutants through a layer that was just run."""
        layer = self.run.layers[index]
        carried: Dict[str, Dict[int, Mutant]] = {}
        if step is not None:
            for mutated in self._reaching(layer.param.bottom):
                wrong = [
                    _array(self._wrong.get(name, {}).get(mutated), value)
                    for name, value in zip(layer.param.bottom, step.bottoms)
                ]
                _collect(carried, layer.param.top, mutated, _behind(self.run, step, wrong))
            if index in self._open:
                mutant = _mutant(self.run, step, Seeded("mutant", index), self._wrong_by)
                _collect(carried, layer.param.top, index, mutant)
        for top in layer.param.top:
            for name in (top, *self.run.plan.aliases[index].get(top, ())):
                self._wrong.pop(name, None)
                if top in carried:
                    self._wrong[name] = carried[top]

    def look(self, name: str, label: str, limit: float, largest: float) -> None:
        """Compare the blob ``name``, which agrees with the old net's, with its mutants.

        ``largest`` is its largest absolute value.
        """
        right = self.run.arrays[name]
        for mutated, wrong in self._wrong.pop(name, {}).items():
            if mutated not in self._open:
                continue
            moved = wrong.moved(right, limit, largest)
            if moved > self.best[mutated][1]:
                self.best[mutated] = (label, moved)
            if moved > limit:
                self._open.discard(mutated)

    def drop(self, plan: Plan, index: int) -> None:
        """Forget what nobody reads any more."""
        for name in [name for name in self._wrong if plan.needed[name] <= index]:
            del self._wrong[name]

    def _reaching(self, bottoms: Sequence[str]) -> List[int]:
        reaching = {mutated for name in bottoms for mutated in self._wrong.get(name, ())}
        return sorted(reaching & self._open)


def farthest(first: np.ndarray, other: np.ndarray) -> float:
    """The largest absolute difference of two arrays; inf if a value is not finite."""
    with np.errstate(all="ignore"):
        error = first - other
        far = float(max(error.max(), -error.min())) if error.size else 0.0
    return far if np.isfinite(far) else float("inf")


class Mutant:
    """What a blob would hold: an array, or the blob itself and the part of it that is wrong.

    ``signs`` and ``bias`` broadcast against the blob y: the mutant is y + signs (y - bias).
    """

    def __init__(self, array: np.ndarray, signs: Any = None, bias: Any = None) -> None:
        self._array = array
        self._signs = signs
        self._bias = bias

    def array(self) -> np.ndarray:
        """The values."""
        if self._signs is None:
            return self._array
        wrong: np.ndarray = self._array * (1 + self._signs)
        if self._bias is not None:
            wrong -= self._signs * self._bias
        return wrong

    def moved(self, right: np.ndarray, limit: float, largest: float) -> float:
        """The largest difference from ``right``, the blob as it is, relative to ``largest``.

        0 if ``largest`` is 0: a dead blob shows nothing. Once a difference beyond ``limit`` was
        found, larger ones are not looked for.
        """
        if not largest:
            return 0.0
        if self._signs is None or right is not self._array:
            return farthest(self.array().reshape(right.shape), right) / largest
        few = tuple(slice(None if n == 1 else _FEW) for n in self._signs.shape)
        moved = self._moved(few) / largest
        return moved if moved > limit else self._moved(()) / largest

    def _moved(self, channels: Tuple[slice, ...]) -> float:
        """The largest difference of the ``channels`` from those of the blob itself."""
        right, signs = self._array[channels], self._signs[channels]
        axes = tuple(n for n in range(right.ndim) if signs.shape[n] == 1)
        ends = [end(right, axis=axes, keepdims=True) for end in (np.max, np.min)]
        bias = 0.0 if self._bias is None else self._bias[channels]
        far = max(_largest(end - bias) for end in ends) * _largest(signs)
        return far if np.isfinite(far) else float("inf")


class _Convolved(Mutant):
    """What a convolution makes of a mutant, computed when it is needed.

    ``compute(n)`` gives the first n of its ``channels``, (N, n, spatial).
    """

    def __init__(self, compute: Callable[[int], np.ndarray], channels: int) -> None:
        super().__init__(np.empty(0))
        self._compute: Optional[Callable[[int], np.ndarray]] = compute
        self._channels = channels

    def array(self) -> np.ndarray:
        if self._compute is not None:
            self._array = self._compute(self._channels)
            self._compute = None  # it holds the layer's bottoms and weights
        return self._array

    def moved(self, right: np.ndarray, limit: float, largest: float) -> float:
        if right.ndim > 1 and self._compute is not None:
            few, right_few = self._compute(_FEW), right[:, :_FEW]
            if few.shape == right_few.shape and farthest(few, right_few) > limit * largest > 0:
                return farthest(few, right_few) / largest
        return super().moved(right, limit, largest)


def _behind(
    run: Run, step: Step, bottoms: Sequence[np.ndarray]
) -> Sequence[Union[None, np.ndarray, Mutant]]:
    """The tops of a layer that reads mutants."""
    spec, blobs = step.spec, step.blobs
    param = spec.param.convolution_param
    channels = param.num_output
    is_plain = spec.type == "Convolution" and param.axis == 1 and param.group <= 1
    if not is_plain or len(bottoms) > 1 or len(blobs[0]) != channels or channels <= _FEW:
        return run.forward(spec, blobs, bottoms)

    def compute(number: int) -> np.ndarray:
        some = spec.copy()
        some.param.convolution_param.num_output = number
        rows = [blobs[0][:number], *[bias.reshape(-1)[:number] for bias in blobs[1:]]]
        return run.forward(some, rows, bottoms)[0]

    return [_Convolved(compute, channels)]


def _largest(values: np.ndarray) -> float:
    return float(max(values.max(), -values.min())) if values.size else 0.0


def _array(mutant: Optional[Mutant], right: np.ndarray) -> np.ndarray:
    return right if mutant is None else mutant.array().reshape(right.shape)


def _collect(
    carried: Dict[str, Dict[int, Mutant]],
    names: Sequence[str],
    mutated: int,
    tops: Sequence[Union[None, np.ndarray, Mutant]],
) -> None:
    for name, top in zip(names, tops):
        if top is not None:
            mutant = top if isinstance(top, Mutant) else Mutant(top)
            carried.setdefault(name, {})[mutated] = mutant


def _mutant(
    run: Run, step: Step, draws: Seeded, wrong: float
) -> Sequence[Union[None, np.ndarray, Mutant]]:
    """The tops of a layer whose weights are wrong; of one without weights, wrong tops."""
    if step.blobs and step.spec.type not in _LINEAR:
        blobs = [blob * (1 + draws.signs(blob.shape, wrong)) for blob in step.blobs]
        return run.forward(step.spec, blobs, step.bottoms)
    return [None if top is None else _wrong_top(step, top, draws, wrong) for top in step.tops]


def _wrong_top(step: Step, top: np.ndarray, draws: Seeded, wrong: float) -> Mutant:
    if not top.ndim:
        return Mutant(top * (1 + wrong))
    axis = min(_channel_axis(step.spec, top.ndim), top.ndim - 1)
    shape = [1] * top.ndim
    shape[axis] = top.shape[axis]
    signs = draws.signs(shape, wrong)
    return Mutant(top, signs, step.blobs[1].reshape(shape) if len(step.blobs) > 1 else None)


def _channel_axis(spec: LayerSpec, rank: int) -> int:
    if spec.type == "InnerProduct":
        return rank - 1
    axis = int(spec.param.convolution_param.axis) if spec.type in _LINEAR else 1
    return axis + rank if axis < 0 else axis
