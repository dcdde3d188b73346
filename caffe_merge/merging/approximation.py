"""The part of a merge that is not exact, and its effect on the outputs: as data and as text."""

import math
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.errors import OptionName, Text
from caffe_merge.wording import counted

if TYPE_CHECKING:
    from caffe_merge.passes.rewriting.rewrite import Rewrite
    from caffe_merge.validation import BlobResult


class Effect(NamedTuple):
    """How far an output is from the original's, in units of its largest value there.

    ``argmax_agreement`` is the share of places whose largest channel is the same, None without
    channels.
    """

    output: str
    max_error: float
    rms_error: float
    argmax_agreement: Optional[float]

    def __str__(self) -> str:
        text = f"{self.output!r} differs by {self.max_error:.2g}, rms {self.rms_error:.2g}"
        if self.argmax_agreement is None:
            return text
        return f"{text}; its largest channel is the same at {self.argmax_agreement:.1%} of places"


class Approximation(NamedTuple):
    """The layers whose channels were shifted, how many channels; ``effects`` None: not measured."""

    layers: Tuple[str, ...]
    channels: int
    effects: Optional[Tuple[Effect, ...]] = None

    @classmethod
    def of(cls, rewrite: "Rewrite") -> "Approximation":
        """That of absorb-bias: each ReLU that got a Scale in front of it."""
        shifts = {
            insert.reader.name: int(np.count_nonzero(insert.layer.blobs[1].float64()))
            for insert in rewrite.inserts
            if insert.reader.type == "ReLU"
        }
        return cls(tuple(shifts), sum(shifts.values()))

    def measured(self, moved: Sequence["BlobResult"]) -> "Approximation":
        """The same with the outputs of the merged pair, compared with the original's."""
        effects = [
            Effect(blob.name, blob.max_error, blob.rms_error, blob.argmax_agreement)
            for blob in moved
        ]
        return self._replace(effects=tuple(effects))

    def to_json(self) -> Dict[str, Any]:
        """All of it as JSON types; an error that is not a number is null."""
        effects = None
        if self.effects is not None:
            effects = [
                {key: _json(value) for key, value in effect._asdict().items()}
                for effect in self.effects
            ]
        return {**self._asdict(), "effects": effects, "summary": self.summary()}

    def summary(self) -> Text:
        """In one line what was done, and how far the output that moved most is off."""
        done = f" is not exact: {counted(self.channels, 'channel')} of "
        done += f"{counted(len(self.layers), 'layer')} shifted; "
        if not self.effects:
            done += "how far the outputs move for it was not measured"
            return Text(OptionName("absorb_bias"), done)
        worst = max(effect.max_error for effect in self.effects)
        done += f"the outputs differ from the original's by up to {worst:.2g} of the largest value"
        return Text(OptionName("absorb_bias"), done)

    def lines(self) -> List[str]:
        """A line for each output, the furthest first."""
        effects = sorted(self.effects or (), key=lambda effect: -effect.max_error)
        return [f"  {effect}" for effect in effects]


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
