"""The catalogue: one row for each layer type that any part of the package names.

What is asked of a type is asked here: every list of types elsewhere is made from these rows. Tables
that map a type to a function (its shape, its forward, the map that it is) stand beside the
functions; a test holds that their types are here. The name of a row is the type in the text.
"""

from typing import Any, Dict, FrozenSet, NamedTuple, Tuple

# Families.
DATA = "data"  # brings blobs from outside the net
CONVOLUTION = "convolution"  # BVLC's, and a fork's depthwise types
DEPTHWISE = "depthwise"  # of these, those whose group is the number of channels
DECONVOLUTION = "deconvolution"
PRODUCT = "product"
NORM = "norm"  # by stored statistics; layers/norms/ has the formulas
AFFINE = "affine"  # a map per channel without statistics
DROPOUT = "dropout"
POINTWISE = "pointwise"  # each value by itself
POOLING = "pooling"
MOVING = "moving"  # values are moved, copied or left out, none is computed
JOIN = "join"  # several blobs become one
LOSS = "loss"  # compares with labels
OTHER = "other"


class LayerType(NamedTuple):
    """A row. What is not said of a type is not true of it.

    ``block`` is the block of the text with its parameters. ``same_shape``: its tops have its
    bottom's shape. ``channelwise``: channel c of each top depends on channel c of the bottoms
    alone. ``in_place``: rewrites may have it write over its bottom. ``shares``: in Caffe its top is
    its bottom's memory, "always" or where it has one bottom and one top ("alone"). ``back``: a
    positive multiplier goes back through it. ``on``: a map per channel goes on through it.
    ``one_size``: it ties what it reads to one size. ``labels``: on its way to a loss, labels may be
    prepared by it. ``images``: it brings images. ``fork``: of no BVLC Caffe. ``also`` is another
    block that a fork's code reads.
    """

    family: str
    block: str = ""
    same_shape: bool = False
    channelwise: bool = False
    in_place: bool = False
    shares: str = ""
    back: bool = False
    on: bool = False
    one_size: bool = False
    labels: bool = False
    images: bool = False
    fork: bool = False
    also: str = ""

    @property
    def blocks(self) -> Tuple[str, ...]:
        """The blocks of the text with its parameters."""
        return tuple(filter(None, (self.block, self.also)))


def _pointwise(block: str = "", **more: Any) -> LayerType:
    return LayerType(POINTWISE, block, same_shape=True, channelwise=True, **more)


def _norm(block: str, fork: bool = True, also: str = "") -> LayerType:
    return LayerType(NORM, block, same_shape=True, channelwise=True, fork=fork, also=also)


CATALOGUE: Dict[str, LayerType] = {
    # linear layers
    "Convolution": LayerType(CONVOLUTION, "convolution_param"),
    "ConvolutionDepthwise": LayerType(DEPTHWISE, "convolution_param", fork=True),
    "DepthwiseConv": LayerType(DEPTHWISE, "convolution_param", fork=True),
    "DepthwiseConvolution": LayerType(DEPTHWISE, "convolution_param", fork=True),
    "Deconvolution": LayerType(DECONVOLUTION, "convolution_param"),
    "InnerProduct": LayerType(PRODUCT, "inner_product_param", one_size=True),
    "Embed": LayerType(OTHER, "embed_param"),
    # maps per channel
    "BN": _norm("bn_param"),
    "BNData": _norm("bn_param"),
    "BNHK": _norm("bnhk_param"),
    "BatchNorm": _norm("batch_norm_param", fork=False),
    "BatchNormScale": _norm("batch_norm_param"),
    "BatchNormTorch": _norm("batch_norm_param"),
    "CuDNNBatchNorm": _norm("cudnn_batch_norm_param", also="batch_norm_param"),
    "SyncBN": _norm("bn_param"),
    "Scale": LayerType(AFFINE, "scale_param", same_shape=True, channelwise=True, in_place=True),
    "Bias": LayerType(AFFINE, "bias_param", same_shape=True, channelwise=True),
    "Power": LayerType(AFFINE, "power_param", same_shape=True, channelwise=True, labels=True),
    "Dropout": LayerType(DROPOUT, "dropout_param", same_shape=True, channelwise=True),
    "SpatialDropout": LayerType(
        DROPOUT, "spatial_dropout_param", same_shape=True, channelwise=True, fork=True
    ),
    "DropoutChannel": LayerType(OTHER, same_shape=True, fork=True),
    # each value by itself
    "AbsVal": _pointwise(),
    "BNLL": _pointwise(),
    "Clip": _pointwise("clip_param"),
    "ELU": _pointwise("elu_param"),
    "Exp": _pointwise("exp_param"),
    "HSwish": _pointwise("hswish_param", fork=True),
    "HardSigmoid": _pointwise("hard_sigmoid_param", fork=True),
    "HardSwish": _pointwise("hard_swish_param", fork=True),
    "Log": _pointwise("log_param"),
    "Mish": _pointwise("mish_param", fork=True),
    "PReLU": _pointwise("prelu_param", in_place=True, back=True, on=True),
    "ReLU": _pointwise("relu_param", in_place=True, back=True, on=True),
    "ReLU6": _pointwise("relu6_param", fork=True),
    "SeLU": _pointwise(fork=True),
    "Sigmoid": _pointwise("sigmoid_param"),
    "Softplus": _pointwise(fork=True),
    "Swish": _pointwise("swish_param"),
    "TanH": _pointwise("tanh_param"),
    "Threshold": _pointwise("threshold_param", labels=True),
    # windows
    "Pooling": LayerType(
        POOLING, "pooling_param", channelwise=True, back=True, on=True, labels=True
    ),
    "SPP": LayerType(OTHER, "spp_param"),
    "ROIPooling": LayerType(OTHER, "roi_pooling_param", fork=True),
    "LRN": LayerType(OTHER, "lrn_param", same_shape=True),
    "Im2col": LayerType(OTHER),
    # several values of a blob together
    "ArgMax": LayerType(OTHER, "argmax_param", labels=True),
    "MVN": LayerType(OTHER, "mvn_param", same_shape=True),
    "Normalize": LayerType(OTHER, "norm_param", same_shape=True, fork=True),
    "Reduction": LayerType(OTHER, "reduction_param"),
    "Softmax": LayerType(OTHER, "softmax_param", same_shape=True),
    # what moves values
    "Crop": LayerType(MOVING, "crop_param", labels=True),
    "Flatten": LayerType(
        MOVING, "flatten_param", shares="always", on=True, labels=True, one_size=True
    ),
    "Interp": LayerType(OTHER, "interp_param", fork=True, labels=True),
    "Padding": LayerType(OTHER, "padding_param", fork=True),
    "Permute": LayerType(MOVING, "permute_param", fork=True, labels=True),
    "Reorg": LayerType(MOVING, "reorg_param", fork=True),
    "Reshape": LayerType(MOVING, "reshape_param", shares="always", labels=True, one_size=True),
    "ResizeBilinear": LayerType(OTHER, "resize_bilinear_param", fork=True),
    "ResizeNearestNeighbor": LayerType(OTHER, "resize_nearest_neighbor_param", fork=True),
    "Reverse": LayerType(MOVING, "reverse_param", same_shape=True, fork=True),
    "ShuffleChannel": LayerType(MOVING, "shuffle_channel_param", same_shape=True, fork=True),
    "Slice": LayerType(MOVING, "slice_param", shares="alone", on=True, labels=True),
    "Split": LayerType(MOVING, same_shape=True, channelwise=True, shares="always", labels=True),
    "Tile": LayerType(MOVING, "tile_param"),
    "Unpooling": LayerType(OTHER, "unpooling_param", fork=True),
    "Upsample": LayerType(OTHER, "upsample_param", fork=True),
    # steps of a sequence
    "ContinuationIndicator": LayerType(OTHER, "continuation_indicator_param", fork=True),
    "LSTM": LayerType(OTHER, "recurrent_param"),
    "RNN": LayerType(OTHER, "recurrent_param"),
    # boxes
    "PriorBox": LayerType(OTHER, "prior_box_param", fork=True),
    "PriorBoxClustered": LayerType(OTHER, "prior_box_param", fork=True),
    # joins
    "Axpy": LayerType(JOIN, fork=True),
    "Concat": LayerType(JOIN, "concat_param", shares="alone", on=True, labels=True),
    "Eltwise": LayerType(JOIN, "eltwise_param", channelwise=True, labels=True),
    "Silence": LayerType(OTHER),
    "HDF5Output": LayerType(OTHER),
    "Python": LayerType(OTHER, "python_param", labels=True),
    # what comes from outside
    "AnnotatedData": LayerType(DATA, images=True, fork=True),
    "Data": LayerType(DATA, "data_param", images=True),
    "DenseImageData": LayerType(DATA, images=True, fork=True),
    "DummyData": LayerType(DATA, "dummy_data_param"),
    "HDF5Data": LayerType(DATA, "hdf5_data_param"),
    "ImageData": LayerType(DATA, "image_data_param", images=True),
    "ImageSegData": LayerType(DATA, images=True, fork=True),
    "Input": LayerType(DATA, "input_param"),
    "MemoryData": LayerType(DATA, "memory_data_param"),
    "Parameter": LayerType(DATA, "parameter_param"),
    "WindowData": LayerType(DATA, "window_data_param", images=True),
    # what compares with labels
    "Accuracy": LayerType(LOSS, "accuracy_param"),
    "ContrastiveLoss": LayerType(LOSS, "contrastive_loss_param"),
    "EltwiseAccuracy": LayerType(LOSS, fork=True),
    "EuclideanLoss": LayerType(LOSS),
    "HingeLoss": LayerType(LOSS, "hinge_loss_param"),
    "InfogainLoss": LayerType(LOSS, "infogain_loss_param"),
    "MultinomialLogisticLoss": LayerType(LOSS),
    "SigmoidCrossEntropyLoss": LayerType(LOSS),
    "SoftmaxWithLoss": LayerType(LOSS, "softmax_param"),
}


def of_family(*families: str) -> Tuple[str, ...]:
    """The types of these families, in the catalogue's order."""
    return tuple(name for name, row in CATALOGUE.items() if row.family in families)


# What slides a window of weights over its bottom.
WINDOWED = of_family(CONVOLUTION, DEPTHWISE, DECONVOLUTION)


def that(fact: str) -> FrozenSet[str]:
    """The types of which ``fact``, a field of LayerType, is true."""
    return frozenset(name for name, row in CATALOGUE.items() if getattr(row, fact))
