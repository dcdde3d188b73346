"""The forms, each where a target asks for it: behind all passes, which would undo some of them."""

from typing import Tuple

from caffe_merge.passes import Listed


class ListedForm(Listed):
    """A form by its name; its module is one of this folder."""

    package = __name__


FORMS: Tuple[Listed, ...] = (
    ListedForm("grouped-convolution"),  # before the windows, whose form is that of a Convolution
    ListedForm("depthwise-convolution"),  # of other layers than those
    ListedForm("window-sides"),
    ListedForm("as-scale"),
    ListedForm("product-untransposed"),
    ListedForm("drop-flatten"),
    ListedForm("eltwise-pairs"),
    ListedForm("norm-factor"),
    ListedForm("stored-statistics"),
    ListedForm("clip-as-relu6"),
    ListedForm("shared-slope"),
    ListedForm("written-defaults"),
)
