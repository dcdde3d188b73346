"""The rule by which a layer's type makes its top shapes, found and applied."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Dict, List, Optional, Sequence

from caffe_merge.arrays import Shape
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.shapes.geometry import Range, Rule, checked, error, size_error
from caffe_merge.layers.shapes.outputs import RULES
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.wording import counted

# Modules with layers that few nets have. They are named as those of reference/ that run them.
_IMPORTED_LATER = ("detection", "recurrent", "resampling")


@lru_cache(maxsize=None)
def rule_of(kind: str) -> Optional[Rule]:
    """The rule for layers of the type ``kind``, None if their shapes are not known."""
    row = CATALOGUE.get(kind)
    if row is None or row.forward not in _IMPORTED_LATER:
        return RULES.get(kind)
    rules: Dict[str, Rule] = import_module(f"{__package__}.{row.forward}").RULES
    return rules[kind]


def tops(layer: LayerSpec, bottoms: Sequence[Optional[Shape]]) -> Optional[List[Shape]]:
    """The shapes Caffe gives the tops of ``layer``; None if its type or a bottom is unknown.

    Raises NetError where Caffe would abort instead.
    """
    rule = rule_of(layer.type)
    if rule is None:
        return None
    _check_number(layer, "bottom", len(bottoms), rule.bottoms)
    _check_number(layer, "top", len(layer.param.top), rule.tops)
    known_bottoms = [shape for shape in bottoms if shape is not None]
    if len(known_bottoms) < len(bottoms):
        return None
    shapes = rule.function(layer, known_bottoms)
    if shapes is None:
        return None
    for shape in shapes:
        if (
            0 in checked(layer, shape)
            and known_bottoms
            and not any(0 in bottom for bottom in known_bottoms)
        ):
            expected = "no empty top, which no Caffe layer can fill"
            raise size_error(layer, expected, f"shape {shape}")
    return shapes


def check_counts(layer: LayerSpec) -> None:
    """Raise NetError where ``layer`` has more or fewer bottoms or tops than its type takes."""
    rule = rule_of(layer.type)
    if rule is not None:
        _check_number(layer, "bottom", len(layer.param.bottom), rule.bottoms)
        _check_number(layer, "top", len(layer.param.top), rule.tops)


def _check_number(layer: LayerSpec, what: str, number: int, allowed: Range) -> None:
    least, most = allowed
    if number < least:
        raise error(layer, f"at least {counted(least, what)}", number)
    if most is not None and number > most:
        raise error(layer, f"at most {counted(most, what)}", number)
