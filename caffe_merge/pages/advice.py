"""Refusals grouped by pass and kind, and what to do about each group."""

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from caffe_merge.errors import OptionName, Text
from caffe_merge.notes import (
    ASKED,
    BORDER,
    INPUT,
    NET,
    OUTPUT,
    PROOF,
    READERS,
    SHAPE,
    SHARED,
    UNKNOWN,
)


class Kind(NamedTuple):
    """What reasons of one kind have in common, and what can be done about them."""

    about: str
    advice: str


_KINDS = {
    NET: Kind(
        "the layers around it, or its own parameters, forbid it",
        "Nothing: the net would not compute the same. What stays is correct as it is.",
    ),
    SHAPE: Kind(
        "a shape is not known",
        Text("Say the shape: ", OptionName("input_shape"), " BLOB=1,3,224,224."),
    ),
    OUTPUT: Kind(
        "a net output keeps its values",
        "Nothing, if you need this output: it keeps its name and its values. Else take it out "
        "of the text.",
    ),
    INPUT: Kind(
        "a net input keeps its values",
        Text(
            "Nothing: an input keeps its values. ",
            *(OptionName("mean"), ", ", OptionName("scale"), " and ", OptionName("swap_rgb")),
            " change it.",
        ),
    ),
    BORDER: Kind(
        "the border would differ",
        "Nothing: the layer pads with 0, so at the border the result would not be the same.",
    ),
    READERS: Kind(
        "others read the blob",
        "Nothing: another layer needs the blob as it is between the two.",
    ),
    ASKED: Kind("it was asked for", "Leave out the flag that asks for it."),
    SHARED: Kind(
        "the weights are shared",
        Text("Leave out ", OptionName("keep_shared"), ": each layer gets weights of its own."),
    ),
    UNKNOWN: Kind(
        "what the layer does is not known",
        Text(
            "Say what the layer is: ",
            *(OptionName("proto"), " for the fields of a fork, ", OptionName("bn_style")),
            " for its BatchNorm; and see that these are the weights of this net.",
        ),
    ),
    PROOF: Kind(
        "it could not be proved",
        "Please report it, with the layers it names: by its formula it should hold.",
    ),
}


class Group(NamedTuple):
    """Refusals of one pass and one kind; ``reasons`` has each reason with the layers it is for."""

    rewrite: str
    kind: Kind
    total: int
    reasons: Sequence[Tuple[str, List[str]]]


def grouped(refusals: Sequence[Mapping[str, Any]]) -> List[Group]:
    """The refusals of a report (its JSON) in groups, the largest first."""
    groups: Dict[Tuple[str, str], Dict[str, List[str]]] = {}
    for refusal in refusals:
        layers = groups.setdefault((refusal["rewrite"], refusal["kind"]), {})
        layers.setdefault(refusal["reason"], []).append(refusal["layer"])
    out = [
        Group(rewrite, _KINDS[kind], sum(map(len, reasons.values())), [*reasons.items()])
        for (rewrite, kind), reasons in groups.items()
    ]
    return sorted(out, key=lambda group: -group.total)
