"""The forms, each where a target asks for it: behind all passes, which would undo some of them."""

from typing import Tuple

from caffe_merge.passes import Listed

FORMS: Tuple[Listed, ...] = (
    Listed("grouped-convolution"),  # before the windows, whose form is that of a Convolution
    Listed("depthwise-convolution"),  # of other layers than those
    Listed("window-sides"),
    Listed("as-scale"),
    Listed("product-untransposed"),
    Listed("drop-flatten"),
    Listed("eltwise-pairs"),
    Listed("norm-factor"),
    Listed("stored-statistics"),
    Listed("clip-as-relu6"),
    Listed("shared-slope"),
    Listed("written-defaults"),
)
