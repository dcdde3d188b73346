"""What the user reads about a net: notes on it, and reasons why a rewrite does not apply."""

from typing import Literal, NamedTuple, Optional, cast

from caffe_merge.errors import Text

Kind = Literal[  # docs/report.md says what each of them means
    "absorbed-weights",
    "batch-statistics",
    "bn-style",
    "channels-last",
    "deploy",
    "diff-dropped",
    "duplicate-weights",
    "filler-weights",
    "fork-default",
    "fork-shape",
    "fork-unreadable",
    "half-precision",
    "missing-weights",
    "none-absorbed",
    "other-states",
    "output-layer",
    "raw-blobs",
    "raw-input",
    "renamed",
    "spelling",
    "stored-statistics",
    "surplus-weights",
    "target",
    "target-form",
    "text-weights",
    "training-net",
    "unknown-field",
    "upgraded",
    "zero-factor",
]

# Kinds of reasons, for programs that read a report.
NET = "net"  # what is around the layer, or its own parameters, forbid it; in particular:
SHAPE = "shape"  # nothing tells a shape that it depends on
INPUT = "input"  # a net input keeps its name and values
OUTPUT = "output"  # a net output keeps its name and values
READERS = "readers"  # other layers read the blob as it is
BORDER = "border"  # what lies beyond the border of a blob would be another value
ASKED = "asked"  # the user asked for it
SHARED = "shared"  # weights that are shared would have to be unshared
UNKNOWN = "unknown"  # what the layer does, or on which weights, nobody here knows
PROOF = "proof"  # old and new layers do not give out the same
KINDS = (NET, SHAPE, INPUT, OUTPUT, READERS, BORDER, ASKED, SHARED, UNKNOWN, PROOF)


class Note(NamedTuple):
    """Something that the user should know; ``layer`` is empty if it is about the net as a whole."""

    kind: Kind
    layer: str
    text: str


class Reason(Text):
    """Why a rewrite does not apply: a sentence without a subject, about the layer at hand.

    ``kind`` is one of the kinds above. ``cause`` is another layer's reason that this one quotes, if
    it quotes one. A ``minor`` reason only says where the layer stands in the net: the report gives
    it where there is no other reason.
    """

    kind: str
    cause: Optional["Reason"]
    minor: bool

    @classmethod
    def about(cls, what: str, cause: "Reason") -> "Reason":
        """The reason that quotes ``cause`` and begins with ``what`` it is about."""
        return cls(Text(f"{what}: ", cause), cause.kind, cause, cause.minor)

    def __new__(
        cls, text: str, kind: str = NET, cause: Optional["Reason"] = None, minor: bool = False
    ) -> "Reason":
        """The reason that says ``text``."""
        reason = cast(Reason, super().__new__(cls, text))
        reason.kind = kind
        reason.cause = cause
        reason.minor = minor
        return reason
