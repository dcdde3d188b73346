"""Refusals grouped by what they say, and what to do about each group."""

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from caffe_merge.errors import OptionName, Text
from caffe_merge.notes import ASKED, NET, PROOF, SHARED, UNKNOWN

_NAME = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_ANY = "\N{HORIZONTAL ELLIPSIS}"
# What reasons of the kind `net` say, and what can be done about it.
_OF_THE_NET = (
    ("not known", Text("Say the shape: ", OptionName("input_shape"), " BLOB=1,3,224,224.")),
    (
        "net output",
        "Nothing, if you need this output: it keeps its name and its values. Else take it out "
        "of the text.",
    ),
    (
        "net input",
        Text(
            "Nothing: an input keeps its values. ",
            *(OptionName("mean"), ", ", OptionName("scale"), " and ", OptionName("swap_rgb")),
            " change it.",
        ),
    ),
    (
        "the border would differ",
        "Nothing: the layer pads with 0, so at the border the result would not be the same.",
    ),
    (
        "as well",
        "Nothing: another layer needs the blob as it is between the two.",
    ),
)
_BY_KIND = {
    NET: "Nothing: the net would not compute the same. What stays is correct as it is.",
    ASKED: "Leave out the flag that asks for it.",
    SHARED: Text("Leave out ", OptionName("keep_shared"), ": each layer gets weights of its own."),
    UNKNOWN: Text(
        "Say what the layer is: ",
        *(OptionName("proto"), " for the fields of a fork, ", OptionName("bn_style")),
        " for its BatchNorm; and see that these are the weights of this net.",
    ),
    PROOF: "Please report it, with the layers it names: by its formula it should hold.",
}


class Group(NamedTuple):
    """Refusals that say the same of different layers; names in ``reason`` are left out."""

    rewrite: str
    kind: str
    reason: str
    advice: str
    refusals: Sequence[Mapping[str, Any]]


def grouped(refusals: Sequence[Mapping[str, Any]]) -> List[Group]:
    """The refusals of a report (its JSON) in groups, the largest first."""
    groups: Dict[Any, List[Mapping[str, Any]]] = {}
    for refusal in refusals:
        message = _NAME.sub(_ANY, refusal["reason"])
        groups.setdefault((refusal["rewrite"], refusal["kind"], message), []).append(refusal)
    out = []
    for (rewrite, kind, message), alike in groups.items():
        reason = alike[0]["reason"] if len(alike) == 1 else message
        out.append(Group(rewrite, kind, reason, _advice(kind, message), alike))
    return sorted(out, key=lambda group: -len(group.refusals))


def _advice(kind: str, reason: str) -> str:
    for words, advice in _OF_THE_NET if kind == NET else ():
        if words in reason:
            return advice
    return _BY_KIND.get(kind, "")
