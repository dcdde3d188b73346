"""Which layers of a prototxt are in the net: phase, level and stages (net.cpp, StateMeetsRule)."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

from caffe_merge.errors import NetError

TRAIN, TEST = 0, 1

Message = Any  # LayerParameter, NetStateRule: classes made at run time


class State:
    """A NetState: the phase, level and stages that layers' rules are held against."""

    def __init__(self, phase: int = TEST, level: int = 0, stages: Sequence[str] = ()) -> None:
        self.phase = phase
        self.level = level
        self.stages: Tuple[str, ...] = tuple(stages)

    def to_json(self) -> Dict[str, Any]:
        """As keyword arguments of State, for a worker process."""
        return {"phase": self.phase, "level": self.level, "stages": list(self.stages)}

    def includes(self, layer: Message) -> bool:
        """Whether the layer is in the net. Raises NetError where it has both kinds of rule."""
        if layer.include and layer.exclude:
            raise NetError(f"layer {layer.name!r}: expected include or exclude rules, found both")
        if layer.include:
            return any(self.meets(rule) for rule in layer.include)
        return not any(self.meets(rule) for rule in layer.exclude)

    def meets(self, rule: Message) -> bool:
        """Whether every part of a NetStateRule holds; an empty rule always does."""
        return not (
            (rule.HasField("phase") and rule.phase != self.phase)
            or (rule.HasField("min_level") and self.level < rule.min_level)
            or (rule.HasField("max_level") and self.level > rule.max_level)
            or any(stage not in self.stages for stage in rule.stage)
            or any(stage in self.stages for stage in rule.not_stage)
        )
