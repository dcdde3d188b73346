"""Two pairs compared on the user's own images: outputs, classes, and accuracy with labels.

An image is resized to the input, its channels come as BGR, as Caffe reads them, and
``x = (pixels - mean) * scale`` is what a net reads, as in Caffe's data layers. Both pairs run on
the same batches, in a worker each; the outputs alone are compared.
"""

import math
from dataclasses import asdict, dataclass
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import OptionName, Text, UsageError
from caffe_merge.net.pixels import Pixels, values_for
from caffe_merge.validation.classes import Classes, check_labels, classes
from caffe_merge.validation.image_files import labelled, load
from caffe_merge.validation.sessions import Session, input_files
from caffe_merge.wording import counted

LIMIT = 1e-3  # the most that rounding may explain, of an output's largest value
_IMAGES, _MEAN = OptionName("images"), OptionName("image_mean")
Progress = Callable[[int, int, str], None]


class ImageOptions(NamedTuple):
    """The images, and what is done to them: ``mean`` has a value, or one for each channel.

    ``labels`` maps names or paths of images to classes. ``progress(done, total, name)`` is called
    after each image.
    """

    paths: Sequence[str]
    mean: Tuple[float, ...] = (0.0,)
    scale: float = 1.0
    rgb: bool = False
    labels: Optional[Mapping[str, int]] = None
    progress: Optional[Progress] = None


@dataclass(frozen=True)
class OutputOnImages:
    """One output over all images. Errors are relative to the old output's largest value.

    ``max_error`` is the largest and ``image`` the one that has it; ``cosine`` is the smallest.
    ``classes`` is None where the output does not look like one value for each class. ``not_finite``
    are images for which the old net's output is not finite, which nothing can be compared with: if
    all are, ``max_error`` is None. An output without an axis of the batch is of all images of a
    batch, and they are named together.
    """

    name: str
    max_error: Optional[float]
    image: str
    cosine: Optional[float]
    classes: Optional[Classes]
    not_finite: Tuple[str, ...] = ()


@dataclass(frozen=True)
class OnImages:
    """What running both pairs on the user's images found."""

    count: int
    input: str
    shape: Shape
    mean: Tuple[float, ...]
    scale: float
    channels: str
    outputs: Tuple[OutputOnImages, ...]
    unjudged: Tuple[Tuple[str, str], ...] = ()  # outputs that could not be compared, and why

    @property
    def accuracy(self) -> Optional[Tuple[float, float]]:
        """That of the first classifier, before and after; None without one, or without labels."""
        for output in self.outputs:
            if output.classes is not None and output.classes.accuracy is not None:
                return output.classes.accuracy
        return None

    @property
    def problem(self) -> Optional[str]:
        """How the pairs differ by more than rounding explains; None if they do not."""
        for output in self.outputs:
            if output.max_error == math.inf:
                return f"image {output.image}: output {output.name!r} is not finite after the merge"
            if output.max_error is not None and output.max_error > LIMIT:
                return (
                    f"image {output.image}: output {output.name!r} differs by "
                    f"{output.max_error:.2g} of its largest value, limit {LIMIT:g}"
                )
        return None

    @property
    def doubt(self) -> Optional[str]:
        """Why nothing was compared, or an output was not finite; None where that is not so."""
        if not self.outputs:
            why = Text.joined("; ", dict.fromkeys(reason for _, reason in self.unjudged))
            text = Text("no output could be compared on the images: ", why)
            return Text(text, "; ways out: another engine, ", OptionName("allow_unseen"))
        for output in self.outputs:
            if output.not_finite:
                before = f"output {output.name!r} was not finite before the merge; ways out: "
                ways = OptionName("image_scale"), ", ", OptionName("allow_unseen")
                return Text(f"image {output.not_finite[0]}: {before}", *ways)
        return None

    def to_json(self) -> Dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """A few lines for a person."""
        size = "x".join(map(str, self.shape))
        means = ",".join(f"{value:g}" for value in self.mean)
        values = f", (pixels - {means}) * {self.scale:g}" if means else ", pixels as they are"
        images = f"{counted(self.count, 'image')}, {size}, {self.channels}"
        yield f"{images}{values}, as input {self.input!r}"
        for output in self.outputs:
            cosine = "" if output.cosine is None else f", cosine at least {output.cosine:.6f}"
            if output.max_error is not None:
                yield f"  {output.name!r}: largest error {output.max_error:.2g}{cosine}"
            if output.not_finite:
                number = counted(len(output.not_finite), "image")
                yield f"  {output.name!r}: not finite before the merge, {number}"
            if output.classes is not None:
                yield from (f"    {line}" for line in output.classes.lines())
        for name, _ in self.unjudged:
            yield f"  {name!r}: not compared"


def image_input(declared: Mapping[str, Shape]) -> str:
    """The input that takes images: the one of 4 axes with 1 or 3 channels; else UsageError."""
    fitting = [name for name, shape in declared.items() if len(shape) == 4 and shape[1] in (1, 3)]
    if len(fitting) != 1:
        shapes = ", ".join(f"{name!r} {tuple(shape)}" for name, shape in declared.items()) or "none"
        raise UsageError(
            _IMAGES, f": expected one input of 4 axes with 1 or 3 channels; the inputs: {shapes}"
        )
    return fitting[0]


def compare(
    sessions: Tuple[Session, Session],
    options: ImageOptions,
    others: Mapping[str, np.ndarray],
    shape: Tuple[str, Shape],
    raw: Optional[Pixels] = None,
) -> OnImages:
    """Run both opened pairs on all images.

    ``shape`` is the name of the image input and its shape, whose first axis is the batch;
    ``others`` has the arrays of the net's other inputs. ``raw`` says what the new net does to
    pixels itself; mean and scale are its own then.
    """
    name, (batch, *size) = shape
    gathered: Dict[str, List[_Piece]] = {}
    unjudged: Dict[str, str] = {}
    paths = list(options.paths)
    classes = labelled(paths, options.labels)
    done = 0
    for start in range(0, len(paths), batch):
        chunk = paths[start : start + batch]
        old, new = _fed(chunk, (batch, *size), options, raw)
        with input_files({**others, name: old}) as was, input_files({**others, name: new}) as now:
            streams = [s.forward(files, True) for s, files in zip(sessions, (was, now))]
            before, after = (
                {f.header["name"]: f for f in frames if "name" in f.header} for frames in streams
            )
        for output, frame in before.items():
            other = after.get(output, frame)
            if frame.array is None or other.array is None:
                unjudged.setdefault(output, frame.unjudged or other.unjudged)
            elif output in after and frame.array.shape == other.array.shape:
                sides = frame.array, other.array
                gathered.setdefault(output, []).extend(_pieces(sides, batch, chunk))
        if not start and gathered:
            shapes = [p[0].before.shape for p in gathered.values() if len(p) == len(chunk)]
            check_labels(shapes, paths, classes)
        for path in chunk:
            done += 1
            if options.progress:
                options.progress(done, len(paths), path)
    outputs = tuple(_output(n, pieces, paths, classes) for n, pieces in gathered.items())
    channels = "gray" if size[0] == 1 else "RGB" if options.rgb else "BGR"
    mean, scale = ((), 1.0) if raw else (options.mean, options.scale)
    done_as = name, (batch, *size), mean, scale, channels
    return OnImages(len(paths), *done_as, outputs, tuple(unjudged.items()))


def _fed(
    paths: Sequence[str], shape: Shape, options: ImageOptions, raw: Optional[Pixels]
) -> Tuple[np.ndarray, np.ndarray]:
    """What the old and the new net are fed; the last image fills up the batch."""
    images = [load(path, shape[1:], options.rgb) for path in paths]
    pixels = np.stack(images + images[-1:] * (shape[0] - len(images)))
    if raw is not None:
        ordered = np.ascontiguousarray(pixels[:, ::-1]) if raw.swap else pixels
        return raw.of(ordered), ordered
    mean = np.asarray(options.mean, np.float32)
    if mean.size not in (1, shape[1]):
        raise UsageError(_MEAN, f": expected {values_for(shape[1])}, found {mean.size}")
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is told of the outputs
        values = (pixels - mean.reshape(-1, 1, 1)) * np.float32(options.scale)
    return values, values


class _Piece(NamedTuple):
    """What both nets give out for one image, or for those of a batch: they are named together."""

    image: str
    before: np.ndarray
    after: np.ndarray


def _pieces(
    sides: Tuple[np.ndarray, np.ndarray], batch: int, chunk: Sequence[str]
) -> Iterator[_Piece]:
    """One for each image, or one for all where the output has no axis of the batch."""
    before, after = (side.astype(np.float64) for side in sides)
    if before.ndim and before.shape[0] == batch:
        yield from map(_Piece, chunk, before, after)
        return
    yield _Piece(chunk[0] if len(chunk) == 1 else f"{chunk[0]} to {chunk[-1]}", before, after)


def _output(
    name: str,
    pieces: Sequence[_Piece],
    paths: Sequence[str],
    labels: Optional[Sequence[int]],
) -> OutputOnImages:
    errors: List[Tuple[float, str]] = []
    cosines, not_finite = [], []
    for image, before, after in pieces:
        if not np.isfinite(before).all():
            not_finite.append(image)
            continue
        if not np.isfinite(after).all():
            errors.append((math.inf, image))
            continue
        largest = float(np.abs(before).max(initial=0)) or 1.0
        errors.append((float(np.abs(after - before).max(initial=0)) / largest, image))
        squares = float(np.vdot(before, before)) * float(np.vdot(after, after))
        if squares > 0:
            cosines.append(float(np.vdot(before, after)) / squares**0.5)
    error, worst = max(errors, key=lambda pair: pair[0], default=(None, ""))
    sides = [(before, after) for _, before, after in pieces]
    return OutputOnImages(
        name,
        error,
        worst,
        min(cosines, default=None),
        classes(sides, paths, labels) if len(pieces) == len(paths) else None,
        tuple(not_finite),
    )
