"""Two nets' blobs, compared: pure functions on arrays, and the verdict over all of them."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple

import numpy as np

from caffe_merge.validation.workers import Frame
from caffe_merge.wording import counted

_CONSTANT = 1e-6
_SATURATED = 1e-6
NOT_FINITE_BEFORE = "it was not finite before the merge"


@dataclass(frozen=True)
class BlobResult:
    """One blob of both nets. Errors are relative to the old blob's largest absolute value.

    ``cosine`` and ``argmax_agreement`` (the share of positions whose largest channel is the same;
    outputs only) are None where they mean nothing. ``problem`` fails the blob whatever its error;
    ``remark`` says why a small error proves little: the blob is constant or saturated.
    """

    name: str
    shape: Tuple[int, ...]
    max_error: float
    rms_error: float
    cosine: Optional[float] = None
    argmax_agreement: Optional[float] = None
    remark: str = ""
    problem: str = ""


@dataclass(frozen=True)
class InputUsed:
    """One input that both nets ran on; ``seed`` is None for the user's own array."""

    name: str
    shape: Tuple[int, ...]
    seed: Optional[int]
    note: str


@dataclass(frozen=True)
class Comparison:
    """What `validate` measured, and the verdict.

    ``status`` is "passed", "failed" or "inconclusive"; ``reason`` says in one line why it is not
    "passed". ``worst`` and ``first_beyond`` are a blob's name and its max_error. ``unjudged`` holds
    names and reasons; ``only_before`` and ``only_after`` count blobs that one net alone has.
    ``seconds`` are the forward passes of the old net and of the new one.
    """

    status: str
    reason: str
    engine: str
    limit: float
    worst: Optional[Tuple[str, float]]
    first_beyond: Optional[Tuple[str, float]]
    blobs: Tuple[BlobResult, ...]
    unjudged: Tuple[Tuple[str, str], ...]
    inputs: Tuple[InputUsed, ...]
    only_before: int
    only_after: int
    seconds: Tuple[float, float]

    @property
    def ok(self) -> bool:
        """Whether the new net was shown to compute what the old one does."""
        return self.status == "passed"

    def to_json(self) -> Dict[str, Any]:
        """All of it as JSON types; an error that is not a number is null."""
        plain: Dict[str, Any] = _json({"ok": self.ok, **asdict(self)})
        return plain

    def summary(self) -> str:
        """A few lines for a person: the verdict first, then what qualifies it."""
        lines = [f"validation ({self.engine}): {self.status}"]
        lines[0] += (
            f": {self.reason}" if self.reason else f", {counted(len(self.blobs), 'blob')} compared"
        )
        if self.worst:
            lines.append(
                f"worst error {self.worst[1]:.2g} in {self.worst[0]!r}, limit {self.limit:g}"
            )
        for used in self.inputs:
            if used.note:
                shape = "x".join(map(str, used.shape))
                lines.append(f"input {used.name!r}: {shape}, {used.note}")
        remarked = [f"{blob.name!r} is {blob.remark}" for blob in self.blobs if blob.remark]
        lines += [_listing("proves little", remarked)] if remarked else []
        reasons = dict.fromkeys(reason for _, reason in self.unjudged)
        if reasons:
            lines.append(
                _listing(f"{counted(len(self.unjudged), 'blob')} not judged", list(reasons))
            )
        return "\n".join(lines)


def compare(name: str, before: np.ndarray, after: np.ndarray, output: bool = False) -> BlobResult:
    """Compare one blob; neither array is changed. ``output`` adds the arg-max agreement."""
    shape = tuple(before.shape)

    def broken(problem: str) -> BlobResult:
        return BlobResult(name, shape, math.inf, math.inf, problem=problem)

    if before.shape != after.shape:
        return broken(f"its shape was {shape} and is {tuple(after.shape)}")
    if not np.isfinite(before).all():
        return broken(NOT_FINITE_BEFORE)
    if not np.isfinite(after).all():
        return broken("it is not finite after the merge")
    if not before.size:
        return BlobResult(name, shape, 0.0, 0.0, remark="empty")
    old, new = before.astype(np.float64), after.astype(np.float64)
    largest = _largest(old)
    if largest:  # dividing first keeps the squares below within range
        old /= largest
        new /= largest
    error = new - old
    if not largest and error.any():
        return broken("it was all zero before the merge, and is not after")
    squares = float(np.vdot(old, old)) * float(np.vdot(new, new))
    return BlobResult(
        name,
        shape,
        max_error=_largest(error),
        rms_error=math.sqrt(float(np.vdot(error, error)) / error.size),
        cosine=float(np.vdot(old, new)) / math.sqrt(squares) if squares else None,
        argmax_agreement=_argmax_agreement(before, after) if output else None,
        remark=_remark(old, largest),
    )


def judge(
    results: Iterable[BlobResult],
    limit: float,
    outputs: Iterable[str],
    available: Set[str],
    unjudged: Iterable[Tuple[str, str]],
) -> Tuple[str, str]:
    """Status and reason. ``outputs`` are the old net's, ``available`` all the new net's blobs."""
    results = list(results)
    missing = [name for name in outputs if name not in available]
    if missing:
        return "failed", f"the merged net has no output {missing[0]!r}"
    for result in results:
        if result.problem == NOT_FINITE_BEFORE:
            return "inconclusive", f"blob {result.name!r}: {result.problem}; try --input-scale"
        if result.problem:
            return "failed", f"blob {result.name!r}: {result.problem}"
        if beyond(result, limit):
            many = sum(beyond(other, limit) for other in results)
            more = f" (the first of {many} such blobs)" if many > 1 else ""
            return "failed", (
                f"blob {result.name!r} differs by {result.max_error:.2g} of its largest value, "
                f"limit {limit:g}{more}"
            )
    if not results:
        why = [reason for _, reason in unjudged][:1] or ["the two nets share no blob name"]
        return "inconclusive", f"no blob could be compared: {why[0]}"
    if all(result.remark for result in results):
        return "inconclusive", (
            f"every blob compared is {results[-1].remark}: these inputs do not excite the net"
        )
    return "passed", ""


def beyond(result: BlobResult, limit: float) -> bool:
    """Whether a blob fails: written so that an error that is not a number does."""
    return bool(result.problem) or not result.max_error <= limit


def paired(
    before: Iterator[Frame], after: Iterator[Frame], common: Set[str]
) -> Iterator[Tuple[str, Frame, Frame]]:
    """Frames of the same blob, in the old net's order; what waits for its partner is kept.

    The new net's stream is read only as far as the next blob needs: its process waits meanwhile.
    """
    waiting: Dict[str, Frame] = {}
    for old in before:
        name = old.header.get("name")
        if name not in common:
            continue
        while name not in waiting:
            new = next(after)
            if new.header.get("name") in common:
                waiting[new.header["name"]] = new
        yield name, old, waiting.pop(name)


def _largest(array: np.ndarray) -> float:
    return float(max(array.max(), -array.min()))


def _remark(unit: np.ndarray, largest: float) -> str:
    """Why ``unit``, a blob divided by its ``largest`` value, shows little; '' if it does not."""
    if not largest:
        return "all zero"
    if unit.size == 1:
        return ""
    if np.ptp(unit) <= _CONSTANT:
        return "constant"
    if unit.ndim > 2 and unit[0, 0].size > 1:
        rows = unit.reshape(*unit.shape[:2], -1)
        if (np.ptp(rows, axis=2) <= _CONSTANT).all():
            return "constant in every channel"
    if abs(largest - 1) > _SATURATED:
        return ""
    saturated = (np.abs(unit) <= _SATURATED) | (np.abs(unit - 1) <= _SATURATED)
    return "saturated at 0 and 1" if saturated.all() else ""


def _argmax_agreement(before: np.ndarray, after: np.ndarray) -> Optional[float]:
    if before.ndim < 2 or before.shape[1] < 2:
        return None
    return float(np.mean(before.argmax(axis=1) == after.argmax(axis=1)))


def _listing(title: str, items: List[str], most: int = 3) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{title}: {'; '.join(items[:most])}{more}"


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
