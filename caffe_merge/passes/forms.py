"""The forms, each where a target asks for it: behind all passes, which would undo some of them."""

from typing import Tuple, Type

from caffe_merge.passes._pass import Pass
from caffe_merge.passes.as_scale import AsScale
from caffe_merge.passes.clip_as_relu6 import ClipAsRelu6
from caffe_merge.passes.depthwise_convolution import DepthwiseConvolution
from caffe_merge.passes.drop_flatten import DropFlatten
from caffe_merge.passes.eltwise_pairs import EltwisePairs
from caffe_merge.passes.grouped_convolution import GroupedConvolution
from caffe_merge.passes.norm_factor import NormFactor
from caffe_merge.passes.product_untransposed import ProductUntransposed
from caffe_merge.passes.shared_slope import SharedSlope
from caffe_merge.passes.stored_statistics import StoredStatistics
from caffe_merge.passes.window_sides import WindowSides
from caffe_merge.passes.written_defaults import WrittenDefaults

FORMS: Tuple[Type[Pass], ...] = (
    GroupedConvolution,  # before the windows, whose form is that of a Convolution
    DepthwiseConvolution,  # of other layers than those
    WindowSides,
    AsScale,
    ProductUntransposed,
    DropFlatten,
    EltwisePairs,
    NormFactor,
    StoredStatistics,
    ClipAsRelu6,
    SharedSlope,
    WrittenDefaults,
)
