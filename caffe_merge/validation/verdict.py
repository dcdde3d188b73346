"""What a comparison of two nets comes to: passed, failed or inconclusive, and why.

*passed*: every rewrite was seen, and every output of the net was judged. *failed*: somewhere the
nets differ by more than rounding explains. *inconclusive*: anything else. docs/validation.md says
what each does and does not show.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

from caffe_merge.errors import OptionName, Text, spelled
from caffe_merge.validation.compare import NOT_FINITE_BEFORE, BlobResult
from caffe_merge.validation.registry import ENGINES, MAY_BE_NONE, NONE
from caffe_merge.validation.seen import Seen
from caffe_merge.wording import counted, listed, named, quoted

if TYPE_CHECKING:
    from caffe_merge.validation.images import OnImages

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"


@dataclass(frozen=True)
class InputUsed:
    """One input that both nets ran on; ``seed`` is None for the user's own array."""

    name: str
    shape: Tuple[int, ...]
    seed: Optional[int]
    note: str


@dataclass(frozen=True)
class Evidence:
    """What running both nets found; engines make it, `judge` reads it.

    ``blobs`` are results where both nets must agree; ``renamed`` results of blobs that kept their
    names and hold something else. ``seen`` are the changed layers of the new net. ``unjudged`` has
    the blobs that were not compared, and why; ``black_boxes`` name and type of layers that were not
    run, ``astray`` those of them that were not shown to read the same in both nets. ``held`` are
    outputs that need no comparison: the layers that make them are the same in both nets and read
    the same, as black boxes do. ``missing`` are the old net's outputs that the new net does not
    have, ``added`` the reverse, ``new_outputs`` all outputs of the new net. ``layer_by_layer``:
    where a blob of the new net differed, the layers behind it read the old net's values.
    """

    blobs: Tuple[BlobResult, ...]
    outputs: Tuple[str, ...]
    seen: Tuple[Seen, ...] = ()
    renamed: Tuple[BlobResult, ...] = ()
    unjudged: Tuple[Tuple[str, str], ...] = ()
    black_boxes: Tuple[Tuple[str, str], ...] = ()
    astray: Tuple[Tuple[str, str], ...] = ()
    held: Tuple[str, ...] = ()
    missing: Tuple[str, ...] = ()
    added: Tuple[str, ...] = ()
    new_outputs: Tuple[str, ...] = ()
    layer_by_layer: bool = False


@dataclass(frozen=True)
class Comparison:
    """What `validate` measured, and the verdict.

    ``status`` is "passed", "failed" or "inconclusive"; ``reason`` says in one line why it is not
    "passed". ``worst`` and ``first_beyond`` are a blob's name and its max_error. ``seen`` are the
    changed layers, and the blob that shows each; ``renamed`` blobs that kept their names
    and hold something else; ``black_boxes`` names and types of layers that nobody here can run.
    ``images`` is what the user's own images showed, None where none were given.
    ``unjudged`` holds names and reasons; ``only_before`` and ``only_after`` count blobs that one
    net alone has. ``seconds`` are the forward passes of the old net and of the new one.
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
    seen: Tuple[Seen, ...] = ()
    renamed: Tuple[str, ...] = ()
    black_boxes: Tuple[Tuple[str, str], ...] = ()
    images: Optional[OnImages] = None

    @property
    def ok(self) -> bool:
        """Whether the new net was shown to compute what the old one does."""
        return self.status == PASSED

    def to_json(self) -> Dict[str, Any]:
        """All of it as JSON types; an error that is not a number is null, a missing text "".

        docs/report.md describes every entry.
        """
        plain = {"ok": self.ok, **asdict(self), "seen": [entry._asdict() for entry in self.seen]}
        for blob in plain["blobs"]:
            blob.update({name: blob[name] or "" for name in ("remark", "problem")})
        tree: Dict[str, Any] = _json(plain)
        return tree

    def summary(self, name_of: Callable[[str], str] = str) -> str:
        """A few lines for a person: the verdict first, then what qualifies it.

        Options in it are called by ``name_of`` of their names in the library.
        """
        why = spelled(self.reason, name_of)
        lines = [f"validation ({self.engine}): {self.status}"]
        compared = f", {counted(len(self.blobs), 'blob')} compared"
        if self.ok and self.seen:
            unseen = sum(not entry.blob for entry in self.seen)
            compared += f", {len(self.seen) - unseen} of {counted(len(self.seen), 'rewrite')} seen"
        if self.black_boxes:
            compared += f", {black_boxes(self.black_boxes)}"
        lines[0] += f": {why}" if why and not self.ok else compared
        lines += self._qualifications()
        if self.unjudged:
            reasons = dict.fromkeys(spelled(reason, name_of) for _, reason in self.unjudged)
            number = counted(len(self.unjudged), "blob")
            lines.append(f"{number} not judged: {listed(list(reasons), separator='; ')}")
        lines += self.images.lines() if self.images is not None else ()
        return "\n".join(lines)

    def _qualifications(self) -> Iterator[str]:
        """The largest error, and what else is to be known of what was compared."""
        if self.worst:
            name, error = self.worst
            yield f"worst error {error:.2g} in {quoted(name)}, limit {self.limit:g}"
        raised = [
            f"{blob.label} {blob.limit:.2g} (error {blob.max_error:.2g})"
            for blob in self.blobs
            if blob.limit > self.limit
        ]
        if raised:
            yield f"limits raised to what rounding explains: {listed(raised, separator='; ')}"
        for used in self.inputs:
            if used.note:
                yield f"input {quoted(used.name)}: {'x'.join(map(str, used.shape))}, {used.note}"
        remarked = [f"{blob.label} is {blob.remark}" for blob in self.blobs if blob.remark]
        if remarked:
            yield f"blobs that prove little: {listed(remarked, separator='; ')}"
        if self.renamed:
            yield f"blobs that hold something else now: {named(self.renamed)}"


def judge(
    evidence: Evidence,
    allow_unseen: bool = False,
    engine: str = "",
    chosen_by: str = "engine",
    values_by: str = "input_scale",
) -> Tuple[str, str]:
    """Status and reason, by what ``engine`` found.

    The option ``chosen_by`` chose that engine, and ``values_by`` is the one that gives the nets
    other values.
    """
    failure = _failure(evidence)
    if failure is not None:
        return FAILED, failure
    doubts = list(_doubts(evidence, engine, chosen_by, values_by))
    fatal = [text for text, allowed in doubts if not (allowed and allow_unseen)]
    if not fatal:
        return PASSED, ""
    return INCONCLUSIVE, Text.joined("; ", fatal)


def _failure(evidence: Evidence) -> Optional[str]:
    if evidence.missing:
        outputs = named(evidence.new_outputs) or "none"
        return f"the merged net has no output {quoted(evidence.missing[0])}: it has {outputs}"
    beyond = list(_faults(evidence))
    if not beyond:
        return None
    blob = beyond[0]
    if blob.problem is not None:
        return f"blob {blob.label}: {blob.problem}"
    more = f" (the first of {len(beyond)} such blobs)" if len(beyond) > 1 else ""
    return (
        f"blob {blob.label} differs by {blob.max_error:.2g} of its largest value, "
        f"limit {blob.limit:.2g}{more}"
    )


def _faults(evidence: Evidence) -> Iterator[BlobResult]:
    """The blobs by which the nets differ, but for what the old net's own values may explain."""
    for blob in evidence.blobs:
        if blob.problem is not None and blob.problem.kind == NOT_FINITE_BEFORE:
            if not evidence.layer_by_layer:
                return  # what is behind it may differ because of it
        elif not blob.agrees:
            yield blob


def _doubts(
    evidence: Evidence, engine: str, chosen_by: str, values_by: str
) -> Iterable[Tuple[str, bool]]:
    """Reasons why the verdict is inconclusive, and whether ``allow_unseen`` accepts each."""
    broken = next((blob for blob in evidence.blobs if blob.problem is not None), None)
    if broken is not None:
        problem = f"blob {broken.label}: {broken.problem}; try other values by "
        yield Text(problem, OptionName(values_by)), False
        return
    judged = {blob.name for blob in evidence.blobs if not blob.reader}
    reasons = dict(evidence.unjudged)
    if not evidence.blobs:
        why = "the two nets share no blob name"
        if evidence.black_boxes:
            why = f"there is nothing but {black_boxes(evidence.black_boxes)}"
        why = next((text for _, text in evidence.unjudged), why)
        yield Text("no blob could be compared: ", why), False
        if evidence.unjudged or evidence.black_boxes:
            yield _ways_out(engine, chosen_by), False
        return
    unjudged = [
        name for name in evidence.outputs if name not in judged and name not in evidence.held
    ]
    if unjudged:
        causes = [Text(": ", reasons[name]) for name in unjudged if name in reasons]
        yield (
            Text(f"{counted(len(unjudged), 'output')} not judged ({named(unjudged)})", *causes[:1]),
            True,
        )
    if evidence.astray:
        yield f"what is read by {black_boxes(evidence.astray)} was not judged", True
    if evidence.added:
        more = counted(len(evidence.added), "output")
        yield f"the merged net has {more} more ({named(evidence.added)})", True
    unseen = [entry.layer for entry in evidence.seen if not entry.blob]
    if unseen:
        rewrites = counted(len(evidence.seen), "rewrite")
        yield (
            Text(f"{len(unseen)} of {rewrites} not seen ({named(unseen)})", _in_the_way(evidence)),
            True,
        )
    elif not evidence.seen and all(blob.remark is not None for blob in evidence.blobs):
        remark = evidence.blobs[-1].remark
        yield f"every blob compared is {remark}: these inputs do not excite the net", False
        return
    if unjudged or unseen or evidence.astray or evidence.added:
        yield _ways_out(engine, chosen_by, values_by, "allow_unseen"), True


def _ways_out(engine: str, chosen_by: str, *options: str) -> Text:
    others = " or ".join(name for name in ENGINES if name != engine)
    ways: List[str] = [Text(OptionName(chosen_by), f" {others}"), *map(OptionName, options)]
    if chosen_by == MAY_BE_NONE:
        ways.append(Text(OptionName(chosen_by), f" {NONE}"))
    return Text("ways out: ", Text.joined(", ", ways))


def _in_the_way(evidence: Evidence) -> str:
    """Why rewrites were not seen."""
    reasons = list(dict.fromkeys(reason for _, reason in evidence.unjudged))
    if reasons:
        return Text(", behind ", reasons[0])
    dull = [blob for blob in evidence.blobs if blob.remark is not None]
    if dull:
        return f": {dull[0].label} is {dull[0].remark}"
    return ": with their weights wrong no blob that is compared would move"


def black_boxes(boxes: Sequence[Tuple[str, str]]) -> str:
    """``1 black box: 'detection_out' (DetectionOutput)``."""
    number = f"{len(boxes)} black {'box' if len(boxes) == 1 else 'boxes'}"
    return (
        f"{number}: {listed([f'{quoted(name)} ({kind})' for name, kind in boxes], separator='; ')}"
    )


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
