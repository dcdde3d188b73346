"""What became of one pair: in words, in numbers, and as the line of a journal or a report."""

from typing import Any, Callable, Dict, NamedTuple, Optional

from caffe_merge import __version__
from caffe_merge.errors import OptionName, Text, spelled

MERGED, UNCHANGED, FAILED = "merged", "unchanged", "failed"
NO_CHANGE = "no change"  # in place of a verdict: no layer was changed, there is nothing to compare
# Kinds of failures, for programs that read a report.
INPUT, VALIDATION, CRASH, TIMEOUT, MEMORY, PAIRING, STOPPED, WORKER = (
    "input", "validation", "crash", "timeout", "memory", "pairing", "stopped", "worker",
)  # fmt: skip
FIGURES = "layers", "parameters", "multiply_adds", "bytes"  # each before and after
_ADVICE = {
    CRASH: "merge it alone with -v to see more, and report it",
    TIMEOUT: Text(OptionName("timeout"), " gives it longer"),
    MEMORY: Text(OptionName("jobs"), " 1 leaves it all the memory"),
    PAIRING: "name the pair in a list",
    WORKER: Text("look at that worker, then go on with ", OptionName("resume")),
    VALIDATION: "merge it alone with -v to see which blob",
}


class Outcome(NamedTuple):
    """What became of a pair. ``status`` is merged, unchanged (since an earlier run) or failed.

    ``kind`` and ``reason`` say why it failed. ``validation`` is what the engine found: its name,
    verdict and worst error, and the accuracy before and after. ``seconds`` are of wall time.
    ``figures`` are the layers, parameters, multiply-adds and bytes before and after, each a pair.
    ``inputs`` has the sha256 of all files that were read, by path, ``outputs`` of ``output_model``
    and ``output_weights``. ``target`` is the line on what the program that the pair is for does not
    take; None without one.
    """

    status: str
    reason: str = ""
    kind: str = ""
    validation: Optional[Dict[str, Any]] = None
    seconds: float = 0.0
    figures: Optional[Dict[str, Any]] = None
    inputs: Optional[Dict[str, str]] = None
    outputs: Optional[Dict[str, str]] = None
    target: Optional[str] = None

    @property
    def ok(self) -> bool:
        """Whether the merged pair is in place."""
        return self.status != FAILED

    @property
    def advice(self) -> str:
        """What to do about a failure, where the reason does not say it."""
        return _ADVICE.get(self.kind, "")


class Result(NamedTuple):
    """A pair of a batch and its outcome.

    ``name`` is the path of its weights below the sources' common folder; ``model`` and ``weights``
    are the inputs (the first "" where no text was chosen), ``output_model`` and ``output_weights``
    where the merged pair is, if it is ``ok``.
    """

    name: str
    model: str
    weights: str
    output_model: str
    output_weights: str
    outcome: Outcome

    @property
    def ok(self) -> bool:
        """Whether the merged pair is in place."""
        return self.outcome.ok

    def to_json(self, name_of: Callable[[str], str] = str) -> Dict[str, Any]:
        """As plain data, options called by ``name_of``; docs/batch.md describes every entry."""
        named = {name: getattr(self, name) for name in self._fields if name != "outcome"}
        figures = self.outcome.figures or {}
        outcome = self.outcome._asdict()
        outcome["reason"] = spelled(self.outcome.reason, name_of)
        outcome["advice"] = spelled(self.outcome.advice, name_of)
        outcome.pop("figures")
        return {**named, "version": __version__, **outcome, **figures}
