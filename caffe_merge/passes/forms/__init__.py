"""The forms, each where a target asks for it: behind all passes, which would undo some of them."""

from __future__ import annotations

from typing import Tuple

from caffe_merge.passes import PassEntry


class FormEntry(PassEntry):
    """A form by its name; its module is one of this folder."""

    package = __name__


FORMS: Tuple[PassEntry, ...] = (
    FormEntry("grouped-convolution"),  # before the windows, whose form is that of a Convolution
    FormEntry("depthwise-convolution"),  # of other layers than those
    FormEntry("window-sides"),
    FormEntry("as-scale"),
    FormEntry("product-untransposed"),
    FormEntry("drop-flatten"),
    FormEntry("eltwise-pairs"),
    FormEntry("norm-factor"),
    FormEntry("stored-statistics"),
    FormEntry("clip-as-relu6"),
    FormEntry("shared-slope"),
    FormEntry("written-defaults"),
)
