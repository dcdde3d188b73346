"""A net as OpenCV's reader is given it: which layers it runs right, and the text of these alone.

OpenCV computes some layers otherwise than Caffe, without an error. The table below has what was
measured against real Caffe with OpenCV 4.14 (tests/validation/test_opencv.py measures it again):
only the types in it are run, and none where its row names a fault.
"""

from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from google.protobuf import text_format

from caffe_merge.arrays import Shape
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers.catalogue import CONVOLUTION, DEPTHWISE, DROPOUT, NORM, of_family
from caffe_merge.layers.layer import Layer, shares_memory
from caffe_merge.validation.run import feedable, without_data

Fault = Callable[[Any], Optional[str]]


class Version(NamedTuple):
    """One write of a blob: its name in OpenCV's text, or why OpenCV is not asked for it."""

    name: str
    reason: Optional[str] = None


class Source(NamedTuple):
    """Where a blob comes from: the name of its layer in OpenCV, its top, its place among them."""

    layer: str
    top: str
    position: int


class Assembled(NamedTuple):
    """The net in OpenCV's terms: every write of a blob has a name of its own.

    ``inputs`` maps the net's inputs, ``final`` all its blobs to versions; ``sources`` says for the
    name of a version where it comes from. ``read`` are the inputs that the text has: OpenCV does
    not take one that nobody reads.
    """

    text: str
    inputs: Dict[str, str]
    read: FrozenSet[str]
    final: Dict[str, Version]
    sources: Dict[str, Source]


def _right(_param: Any) -> Optional[str]:
    return None


def _one_side(*pairs: Tuple[str, str]) -> Fault:
    def fault(param: Any) -> Optional[str]:
        for first, second in pairs:
            if param.HasField(first) != param.HasField(second):
                return f"{first} or {second} alone"
        return None

    return fault


_sides = _one_side(("pad_h", "pad_w"), ("stride_h", "stride_w"), ("kernel_h", "kernel_w"))


def _convolution(param: Any) -> Optional[str]:
    block = param.convolution_param
    if block.axis != 1 or _has_several_bottoms(param):
        return "an axis of its own, or several bottoms"
    return "three spatial axes" if len(block.kernel_size) > 2 else _sides(block)


def _deconvolution(param: Any) -> Optional[str]:
    dilated = any(dilation != 1 for dilation in param.convolution_param.dilation)
    return "dilation" if dilated else _convolution(param)


def _pooling(param: Any) -> Optional[str]:
    block = param.pooling_param
    if block.pool == block.STOCHASTIC:
        return "pool: STOCHASTIC"
    stride = max(block.stride, block.stride_h, block.stride_w)
    sides = filter(None, (block.kernel_size, block.kernel_h, block.kernel_w))
    if not block.global_pooling and stride > min(sides, default=1):
        return "a stride larger than the kernel"
    return _sides(block)


def _product(param: Any) -> Optional[str]:
    return "transpose" if param.inner_product_param.transpose else None


def _scale(param: Any) -> Optional[str]:
    block = param.scale_param
    if block.axis < 0:
        return "a negative axis"
    return (
        "a bias beside a factor that is a blob"
        if _has_several_bottoms(param) and block.bias_term
        else None
    )


def _has_several_bottoms(param: Any) -> bool:
    return len(param.bottom) > 1


def _batch_norm(param: Any) -> Optional[str]:
    block = param.batch_norm_param
    stored = block.use_global_stats or not block.HasField("use_global_stats")
    return None if stored else "use_global_stats: false"


def _lrn(param: Any) -> Optional[str]:
    block = param.lrn_param
    if block.k != 1:
        return "k"
    written = all(block.HasField(name) for name in ("alpha", "beta", "local_size"))
    return None if written else "defaults for alpha, beta or local_size"


def _log(param: Any) -> Optional[str]:
    block = param.log_param
    return "base, scale or shift" if (block.base, block.scale, block.shift) != (-1, 1, 0) else None


def _mvn(param: Any) -> Optional[str]:
    block = param.mvn_param
    return "eps" if block.HasField("eps") and block.normalize_variance else None


def _swish(param: Any) -> Optional[str]:
    return "beta" if param.swish_param.beta != 1 else None


def _concat(param: Any) -> Optional[str]:
    return "concat_dim" if param.concat_param.HasField("concat_dim") else None


MEASURED: Dict[str, Fault] = {
    "AbsVal": _right,
    "BNLL": _right,
    "BatchNorm": _batch_norm,
    "Concat": _concat,
    "Convolution": _convolution,
    "ConvolutionDepthwise": _convolution,
    "Crop": _right,
    "Deconvolution": _deconvolution,
    "Dropout": _right,
    "ELU": _right,
    "Eltwise": _right,
    "Exp": _right,
    "Flatten": _right,
    "InnerProduct": _product,
    "LRN": _lrn,
    "Log": _log,
    "MVN": _mvn,
    "PReLU": _right,
    "Permute": _right,
    "Pooling": _pooling,
    "Power": _right,
    "ReLU": _right,
    "ReLU6": _right,
    "Reshape": _right,
    "Scale": _scale,
    "Sigmoid": _right,
    "Slice": _right,
    "Softmax": _right,
    "Swish": _swish,
    "TanH": _right,
}
_CONVOLUTIONS = frozenset(of_family(CONVOLUTION, DEPTHWISE))
# Their forward pass is another one in the phase TRAIN.
_IN_TRAINING = frozenset(of_family(NORM, DROPOUT))
# Fields of these types that BVLC's schema does not have, and OpenCV reads as their fork does.
_EXTRA = {"Permute": {"permute_param", "permute_param.order"}}


def fault(layer: Layer, bottom: Optional[Shape]) -> Optional[str]:
    """Why OpenCV is not asked to run ``layer``; None if it runs it as Caffe does.

    ``bottom`` is the shape of its first bottom, None where there is none or it is not known.
    """
    param = layer.param
    title = f"layer {layer.name!r} ({layer.type})"
    if layer.type not in MEASURED:
        return f"{title}: OpenCV is not known to run it as Caffe does"
    if set(layer.extra) - _EXTRA.get(layer.type, set()):
        return f"{title}: fields of a fork: {', '.join(sorted(layer.extra))}"
    if layer.trains and layer.type in _IN_TRAINING:
        return f"{title}: it is in the phase TRAIN"
    if any(not blob.shape for blob in layer.blobs):
        return f"{title}: OpenCV cannot read a blob without axes"
    measured = MEASURED[layer.type](param)
    if any(len(blob.shape) > 4 for blob in layer.blobs):  # one kernel size may stand for three
        measured = measured or "three spatial axes"
    measured = measured or _of_one_line(layer, bottom)
    return None if measured is None else f"{title}: OpenCV differs from Caffe in {measured}"


def _of_one_line(layer: Layer, bottom: Optional[Shape]) -> Optional[str]:
    """A depthwise convolution of 3x3 with a border is wrong where its bottom is one line.

    OpenCV is not asked for other kernels either, which no test has measured.
    """
    if layer.type not in _CONVOLUTIONS or bottom is None or len(bottom) != 4:
        return None
    group = layer.param.convolution_param.group
    is_depthwise = layer.type != "Convolution" or 1 < group == bottom[1]
    if not is_depthwise or min(bottom[2:]) > 1:
        return None
    return "a depthwise convolution of one row or column"


def assemble(
    layers: Sequence[Layer],
    bottoms: Sequence[Optional[Shape]],
    fed: Mapping[str, Shape],
    refused: Mapping[int, str],
    most: Optional[int] = None,
) -> Assembled:
    """The first ``most`` of ``layers``, or all, without those that OpenCV is not to run.

    ``bottoms`` has the shape of each layer's first bottom, if it is known. ``fed`` has the shapes
    of blobs whose values are given, those of data layers among them. ``refused`` maps indices of
    layers to reasons why, beside the faults that are known; what depends on a layer that is left
    out is left out too.
    """
    assembly = _Assembly(fed, refused)
    for index, layer in enumerate(layers[:most]):
        assembly.add(index, layer, bottoms[index])
    read = frozenset(name for name, top in assembly.inputs.items() if top in assembly.read)
    blocks = [
        assembly.input_blocks[assembly.inputs[name]] for name in assembly.inputs if name in read
    ]
    text = "".join([*blocks, *assembly.blocks])
    return Assembled(text, assembly.inputs, read, assembly.versions, assembly.sources)


class _Assembly:
    def __init__(self, fed: Mapping[str, Shape], refused: Mapping[int, str]) -> None:
        self.fed = fed
        self.refused = refused
        self.blocks: List[str] = []
        self.input_blocks: Dict[str, str] = {}
        self.read: Set[str] = set()
        self.inputs: Dict[str, str] = {}
        self.versions: Dict[str, Version] = {}
        self.sources: Dict[str, Source] = {}
        self.memory: Dict[str, int] = {}  # in Caffe, by blob: names may share one
        self.repeated: Dict[str, int] = {}

    def add(self, index: int, layer: Layer, bottom: Optional[Shape]) -> None:
        """Add the text of one layer, or note why its tops are not there; ``bottom`` as in fault."""
        param = layer.param
        tops = [f"{index}:{position}" for position in range(len(param.top))]
        bottoms = [self.versions[b] for b in param.bottom if b in self.versions]
        reason = next((b.reason for b in bottoms if b.reason is not None), None)
        if layer.type == "Input" or feedable([param]):
            versions = [self._input(layer, name, top) for name, top in zip(param.top, tops)]
        elif layer.type == "Split":
            versions = bottoms[:1] * len(tops)
        else:
            reason = reason or self.refused.get(index) or fault(layer, bottom)
            versions = [Version(top if reason is None else "", reason) for top in tops]
            if reason is None and tops:
                self._add_layer(layer, [bottom.name for bottom in bottoms], tops)
        self._write(index, layer, versions)

    def _input(self, layer: Layer, name: str, top: str) -> Version:
        """The blob ``name``, which ``layer`` brings in, as an input if its values are given."""
        if name not in self.fed:
            return Version("", without_data(layer, self.fed))
        block = LayerParameter(name=top, type="Input", top=[top])
        # OpenCV wants a shape for all inputs or for none.
        block.input_param.shape.add(dim=self.fed[name])
        self.inputs[name] = top
        self.input_blocks[top] = _block(block)
        return Version(top)

    def _add_layer(self, layer: Layer, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        block = LayerParameter()
        block.CopyFrom(layer.param)
        for field in ("bottom", "top", "include", "exclude", "phase", "loss_weight", "blobs"):
            block.ClearField(field)
        self.read.update(bottoms)
        block.bottom.extend(bottoms)
        block.top.extend(tops)
        self.blocks.append(_block(block, _extra(layer.extra)))
        number = self.repeated.setdefault(layer.name, 0)  # OpenCV numbers what has one name
        self.repeated[layer.name] += 1
        name = f"{layer.name}_{number}" if number else layer.name
        for position, top in enumerate(tops):
            self.sources[top] = Source(name, top, position)

    def _write(self, index: int, layer: Layer, versions: Sequence[Version]) -> None:
        """Have the tops hold ``versions``; what shares their memory in Caffe changes there too."""
        bottoms = list(layer.param.bottom)
        for position, (top, version) in enumerate(zip(layer.param.top, versions)):
            if position < len(bottoms) and bottoms[position] == top:
                for name in self.versions:
                    if name != top and self.memory.get(name) == self.memory.get(top):
                        reason = f"layer {layer.name!r} writes over it in Caffe, not in OpenCV"
                        self.versions[name] = Version("", reason)
            elif shares_memory(layer) and bottoms:
                self.memory[top] = self.memory[bottoms[0]]
            else:
                self.memory[top] = index * 1000 + position
            self.versions[top] = version


def _block(param: Any, more: str = "") -> str:
    return f"layer {{\n{text_format.MessageToString(param, as_utf8=False)}{more}}}\n"


def _extra(fields: Mapping[str, str]) -> str:
    """Fields that the schema does not know, as text: blocks of numbers and names."""
    blocks: Dict[str, List[str]] = {}
    for name, values in fields.items():
        block, _, field = name.partition(".")
        blocks.setdefault(block, []).extend(f"{field}: {value}" for value in values.split())
    return "".join(f"{block} {{ {' '.join(lines)} }}\n" for block, lines in blocks.items())
