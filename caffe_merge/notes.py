"""What the user is told of a net: notes on what was met, reasons why something does not apply."""

from typing import NamedTuple


class Note(NamedTuple):
    """Something met on loading that the user should know, ``layer`` empty if it is the net's."""

    kind: str
    layer: str
    text: str


class Reason(str):
    """Why a rewrite does not apply: a sentence without a subject, about the layer at hand."""
