"""The catalogue: one row for each layer type that any part of the package names.

What is asked of a type is asked here: every list of types elsewhere is made from these rows. Tables
that map a type to a function (its shape, its forward, the map that it is) stand beside the
functions; a test holds that their types are here. The name of a row is the type in the text.
"""

from itertools import compress
from operator import attrgetter
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


class Filler(NamedTuple):
    """What fills a blob: a ``field`` of its layer's block, where that is not given a constant.

    ``one_bottom``: the blob is there if the layer has one bottom; a second one stands in its place.
    """

    field: str = ""
    default: float = 0.0
    one_bottom: bool = False


_LINEAR = (Filler("weight_filler"), Filler("bias_filler"))
_STATISTICS = (Filler(), Filler(), Filler())


class LayerType(NamedTuple):
    """A row. What is not said of a type is not true of it.

    family        one of the families above
    block         the block of the text with its parameters
    forward       the module of reference/ with its forward pass
    same_shape    its tops have its bottom's shape
    channelwise   channel c of each top depends on channel c of the bottoms alone
    in_place      rewrites may have it write over its bottom
    copies        where it does, BVLC's code keeps a copy of the bottom
    buffers       how many blobs of its bottom's size BVLC's code holds in any case
    shares        in Caffe its top is its bottom's memory, "always" or where it has one bottom and
                  one top ("alone")
    one_size      it ties what it reads to one size
    absolute      its parameters may hold numbers that are right at one size of the input alone
    labels        on its way to a loss, labels may be prepared by it
    images        it brings images
    fork          no BVLC Caffe has it
    also          another block that a fork's code reads
    fillers       one for each blob that it learns, where they are known
    side_by_side  its bottoms, or its tops, lie side by side along its axis
    shapes_of     the numbers of the bottoms that it reads for their shape alone
    masked        its second bottom says where values go
    never_negative  its tops never are, "always" or where what it reads is not ("kept"); of other
                  types layers/signs.py knows more
    rectifier     what is not negative it gives out
    """

    family: str
    block: str = ""
    forward: str = ""
    same_shape: bool = False
    channelwise: bool = False
    in_place: bool = False
    copies: bool = False
    buffers: int = 0
    shares: str = ""
    one_size: bool = False
    absolute: bool = False
    labels: bool = False
    images: bool = False
    fork: bool = False
    also: str = ""
    fillers: Tuple[Filler, ...] = ()
    side_by_side: bool = False
    shapes_of: Tuple[int, ...] = ()
    masked: bool = False
    never_negative: str = ""
    rectifier: bool = False

    @property
    def blocks(self) -> Tuple[str, ...]:
        """The blocks of the text with its parameters."""
        return tuple(filter(None, (self.block, self.also)))


def _pointwise(block: str = "", forward: str = "activation", **more: Any) -> LayerType:
    return LayerType(POINTWISE, block, forward, same_shape=True, channelwise=True, **more)


def _norm(block: str, forward: str = "", fork: bool = True, **more: Any) -> LayerType:
    return LayerType(NORM, block, forward, True, True, fork=fork, **more)


CATALOGUE: Dict[str, LayerType] = {
    # linear layers
    "Convolution": LayerType(CONVOLUTION, "convolution_param", "convolution", fillers=_LINEAR),
    "ConvolutionDepthwise": LayerType(DEPTHWISE, "convolution_param", fork=True),
    "DepthwiseConv": LayerType(DEPTHWISE, "convolution_param", fork=True),
    "DepthwiseConvolution": LayerType(DEPTHWISE, "convolution_param", fork=True),
    "Deconvolution": LayerType(DECONVOLUTION, "convolution_param", "convolution", fillers=_LINEAR),
    "InnerProduct": LayerType(
        PRODUCT, "inner_product_param", "convolution", one_size=True, fillers=_LINEAR
    ),
    "Embed": LayerType(OTHER, "embed_param", "arrange"),
    # maps per channel
    "BN": _norm("bn_param"),
    "BNData": _norm("bn_param"),
    "BNHK": _norm("bnhk_param"),
    "BatchNorm": _norm("batch_norm_param", "normalise", fork=False, buffers=2, fillers=_STATISTICS),
    "BatchNormScale": _norm("batch_norm_param"),
    "BatchNormTorch": _norm("batch_norm_param"),
    "CuDNNBatchNorm": _norm("cudnn_batch_norm_param", also="batch_norm_param"),
    "SyncBN": _norm("bn_param"),
    "Scale": LayerType(
        AFFINE,
        "scale_param",
        "combine",
        same_shape=True,
        channelwise=True,
        in_place=True,
        copies=True,
        fillers=(Filler("filler", 1.0, one_bottom=True), Filler("bias_filler")),
    ),
    "Bias": LayerType(
        AFFINE,
        "bias_param",
        "combine",
        same_shape=True,
        channelwise=True,
        fillers=(Filler("filler", one_bottom=True),),
    ),
    "Power": LayerType(
        AFFINE, "power_param", "activation", same_shape=True, channelwise=True, labels=True
    ),
    "Dropout": LayerType(
        DROPOUT,
        "dropout_param",
        "activation",
        same_shape=True,
        channelwise=True,
        never_negative="kept",
    ),
    "SpatialDropout": LayerType(
        DROPOUT,
        "spatial_dropout_param",
        same_shape=True,
        channelwise=True,
        fork=True,
        never_negative="kept",
    ),
    "DropoutChannel": LayerType(OTHER, same_shape=True, fork=True),
    # each value by itself
    "AbsVal": _pointwise(never_negative="always", rectifier=True),
    "BNLL": _pointwise(never_negative="always"),
    "Clip": _pointwise("clip_param"),
    "ELU": _pointwise("elu_param", never_negative="kept", rectifier=True),
    "Exp": _pointwise("exp_param", never_negative="always"),
    "HSwish": _pointwise("hswish_param", fork=True, never_negative="kept"),
    "HardSigmoid": _pointwise("hard_sigmoid_param", fork=True, never_negative="always"),
    "HardSwish": _pointwise("hard_swish_param", fork=True, never_negative="kept"),
    "Log": _pointwise("log_param"),
    "Mish": _pointwise("mish_param", fork=True, never_negative="kept"),
    "PReLU": _pointwise(
        "prelu_param",
        in_place=True,
        copies=True,
        fillers=(Filler("filler", 0.25),),
        rectifier=True,
    ),
    "ReLU": _pointwise("relu_param", in_place=True, rectifier=True),
    "ReLU6": _pointwise("relu6_param", forward="", fork=True, never_negative="always"),
    "SeLU": _pointwise(fork=True, never_negative="kept"),
    "Sigmoid": _pointwise("sigmoid_param", never_negative="always"),
    "Softplus": _pointwise(fork=True, never_negative="always"),
    "Swish": _pointwise("swish_param", never_negative="kept"),
    "TanH": _pointwise("tanh_param", never_negative="kept"),
    "Threshold": _pointwise("threshold_param", labels=True, never_negative="always"),
    # windows
    "Pooling": LayerType(POOLING, "pooling_param", "pooling", channelwise=True, labels=True),
    "SPP": LayerType(OTHER, "spp_param", "pooling"),
    "ROIPooling": LayerType(OTHER, "roi_pooling_param", fork=True),
    "LRN": LayerType(OTHER, "lrn_param", "normalise", same_shape=True, buffers=1),
    "Im2col": LayerType(OTHER),
    # several values of a blob together
    "ArgMax": LayerType(OTHER, "argmax_param", "combine", labels=True),
    "MatMul": LayerType(OTHER, "matmul_param", "forks", fork=True),
    "MVN": LayerType(OTHER, "mvn_param", "normalise", same_shape=True, buffers=1),
    "Normalize": LayerType(OTHER, "norm_param", "forks", same_shape=True, fork=True),
    "Reduction": LayerType(OTHER, "reduction_param", "combine", absolute=True),
    "Softmax": LayerType(
        OTHER, "softmax_param", "normalise", same_shape=True, never_negative="always"
    ),
    # what moves values
    "Crop": LayerType(
        MOVING, "crop_param", "arrange", labels=True, shapes_of=(1,), never_negative="kept"
    ),
    "Flatten": LayerType(
        MOVING,
        "flatten_param",
        "arrange",
        shares="always",
        labels=True,
        one_size=True,
        never_negative="kept",
    ),
    "Interp": LayerType(
        OTHER,
        "interp_param",
        "resampling",
        fork=True,
        labels=True,
        shapes_of=(1,),
        never_negative="kept",
    ),
    "Padding": LayerType(OTHER, "padding_param", "resampling", fork=True),
    "Permute": LayerType(
        MOVING, "permute_param", "forks", fork=True, labels=True, never_negative="kept"
    ),
    "Reorg": LayerType(MOVING, "reorg_param", "resampling", fork=True, never_negative="kept"),
    "Reshape": LayerType(
        MOVING,
        "reshape_param",
        "arrange",
        shares="always",
        labels=True,
        one_size=True,
        never_negative="kept",
    ),
    "ResizeBilinear": LayerType(
        OTHER, "resize_bilinear_param", "resampling", fork=True, never_negative="kept"
    ),
    "ResizeNearestNeighbor": LayerType(
        OTHER, "resize_nearest_neighbor_param", "resampling", fork=True, never_negative="kept"
    ),
    "Reverse": LayerType(
        MOVING, "reverse_param", "resampling", same_shape=True, fork=True, never_negative="kept"
    ),
    "ShuffleChannel": LayerType(
        MOVING, "shuffle_channel_param", "forks", same_shape=True, fork=True, never_negative="kept"
    ),
    "Slice": LayerType(
        MOVING,
        "slice_param",
        "arrange",
        shares="alone",
        labels=True,
        side_by_side=True,
        never_negative="kept",
    ),
    "Split": LayerType(
        MOVING,
        same_shape=True,
        channelwise=True,
        shares="always",
        labels=True,
        forward="arrange",
        never_negative="kept",
    ),
    "Tile": LayerType(MOVING, "tile_param", "arrange", never_negative="kept"),
    "Unpooling": LayerType(
        OTHER, "unpooling_param", "resampling", fork=True, masked=True, never_negative="kept"
    ),
    "Upsample": LayerType(
        OTHER, "upsample_param", "resampling", fork=True, masked=True, never_negative="kept"
    ),
    # steps of a sequence
    "ContinuationIndicator": LayerType(
        OTHER, "continuation_indicator_param", "recurrent", fork=True
    ),
    "LSTM": LayerType(OTHER, "recurrent_param", "recurrent"),
    "RNN": LayerType(OTHER, "recurrent_param", "recurrent"),
    # boxes
    "PriorBox": LayerType(
        OTHER, "prior_box_param", "detection", absolute=True, fork=True, shapes_of=(0, 1)
    ),
    "PriorBoxClustered": LayerType(
        OTHER, "prior_box_param", "detection", absolute=True, fork=True, shapes_of=(0, 1)
    ),
    # joins
    "Axpy": LayerType(JOIN, fork=True, forward="forks"),
    "Concat": LayerType(
        JOIN,
        "concat_param",
        "arrange",
        shares="alone",
        labels=True,
        side_by_side=True,
        never_negative="kept",
    ),
    "Eltwise": LayerType(JOIN, "eltwise_param", "combine", channelwise=True, labels=True),
    "Silence": LayerType(OTHER, forward="arrange"),
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
    "Parameter": LayerType(DATA, "parameter_param", "arrange"),
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
    matches = map(families.__contains__, map(attrgetter("family"), CATALOGUE.values()))
    return tuple(compress(CATALOGUE, matches))


# What may have a second bottom in the place of its first blob: a factor, a summand.
BY_BLOB = frozenset(
    name for name, row in CATALOGUE.items() if any(filler.one_bottom for filler in row.fillers)
)
# What slides a window of weights over its bottom.
WINDOWED = of_family(CONVOLUTION, DEPTHWISE, DECONVOLUTION)


def that(fact: str) -> FrozenSet[str]:
    """The types of which ``fact``, a field of LayerType, is true."""
    return frozenset(compress(CATALOGUE, map(attrgetter(fact), CATALOGUE.values())))
