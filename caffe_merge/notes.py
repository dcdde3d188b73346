"""What the user is told of a net: notes on what was met, reasons why something does not apply."""

from typing import Literal, NamedTuple

Kind = Literal[  # docs/report.md says what each of them means
    "absorbed-weights",
    "bn-style",
    "deploy",
    "diff-dropped",
    "duplicate-weights",
    "filler-weights",
    "fork-default",
    "fork-unreadable",
    "half-precision",
    "missing-weights",
    "other-states",
    "raw-blobs",
    "raw-input",
    "surplus-weights",
    "training-net",
    "unknown-field",
    "upgraded",
    "zero-factor",
]


class Note(NamedTuple):
    """Something met on loading that the user should know, ``layer`` empty if it is the net's."""

    kind: Kind
    layer: str
    text: str


class Reason(str):
    """Why a rewrite does not apply: a sentence without a subject, about the layer at hand."""
