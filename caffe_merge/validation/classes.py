"""Whether two classifiers name the same classes, image by image: pure functions on arrays."""

from dataclasses import dataclass
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import OptionName, UsageError
from caffe_merge.wording import counted

_TOP = 5
_SHOWN = 5


class Row(NamedTuple):
    """One image: the class that each net names, whether the best five are the same.

    ``margin`` is by how much the old net's best class is ahead of its second one.
    """

    image: str
    before: int
    after: int
    margin: float
    top5: Optional[bool]


@dataclass(frozen=True)
class Classes:
    """A classifier's output over all images; ``accuracy`` is before and after, with labels."""

    top1_differ: int
    top5_differ: Optional[int]
    rows: Tuple[Row, ...]
    accuracy: Optional[Tuple[float, float]] = None

    def lines(self) -> Iterator[str]:
        """A few lines for a person."""
        number = len(self.rows)
        same = f"the first class is the same for {number - self.top1_differ} of {number}"
        if self.top5_differ is not None:
            same += f", the first five for {number - self.top5_differ}"
        yield same
        differing = [row for row in self.rows if row.before != row.after]
        for row in differing[:_SHOWN]:
            yield f"{row.image}: class {row.before} is {row.after} now, margin {row.margin:.2g}"
        if len(differing) > _SHOWN:
            yield f"and {counted(len(differing) - _SHOWN, 'image')} more"
        if self.accuracy is not None:
            yield f"accuracy {self.accuracy[0]:.2%} before, {self.accuracy[1]:.2%} after"


def check_labels(
    shapes: Sequence[Shape], images: Sequence[str], labels: Optional[Sequence[int]] = None
) -> None:
    """Raise UsageError where outputs of ``shapes`` (of one image) have no class for a label."""
    if labels is None:
        return
    numbers = [number for number in map(_number, shapes) if number is not None]
    if not numbers:
        raise UsageError(OptionName("labels"), ": no output has one value for each class")
    number = min(numbers)
    for image, label in zip(images, labels):
        if label >= number:
            problem = f": {image}: class {label} of {number} classes, counted from 0"
            raise UsageError(OptionName("labels"), problem)


def _number(shape: Shape) -> Optional[int]:
    """How many classes an output of ``shape`` (of one image) has, if it is one value for each."""
    number = int(np.prod(shape))
    return None if number < 2 or shape[0] != number else number


def classes(
    pieces: Sequence[Tuple[np.ndarray, np.ndarray]],
    images: Sequence[str],
    labels: Optional[Sequence[int]] = None,
) -> Optional[Classes]:
    """Compare (before, after) of each image; None where they are not one value for each class."""
    number = _number(pieces[0][0].shape)
    if number is None:
        return None
    rows = [_row(image, *map(np.ravel, piece)) for image, piece in zip(images, pieces)]
    accuracy = None
    if labels is not None:
        right = [(r.before == label, r.after == label) for r, label in zip(rows, labels)]
        before, after = np.mean(right, axis=0)
        accuracy = float(before), float(after)
    several = number > _TOP
    return Classes(
        sum(row.before != row.after for row in rows),
        sum(not row.top5 for row in rows) if several else None,
        tuple(rows),
        accuracy,
    )


def _row(image: str, before: np.ndarray, after: np.ndarray) -> Row:
    old, new = (np.argsort(-values, kind="stable") for values in (before, after))
    top5 = set(old[:_TOP].tolist()) == set(new[:_TOP].tolist()) if before.size > _TOP else None
    with np.errstate(invalid="ignore"):  # inf - inf
        margin = float(before[old[0]] - before[old[1]])
    return Row(image, int(old[0]), int(new[0]), margin, top5)
