"""V1 text, ``layers { type: CONVOLUTION blobs_lr: 1 }``, in the current format (UpgradeV1Net).

The keyword becomes ``layer``, the type becomes a string, and four lists about blobs become one
``param { }`` for each blob. All other parameters are the same in both formats.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from caffe_merge.formats.text.chunks import chunks, joined, remains, replaced
from caffe_merge.formats.text.splices import Splices
from caffe_merge.formats.text.syntax import Document, Value
from caffe_merge.formats.text.upgrade.reading import old_layers, read
from caffe_merge.formats.text.values import format_string, parse_integer, parse_string

TYPES = {
    "NONE": "", "ABSVAL": "AbsVal", "ACCURACY": "Accuracy", "ARGMAX": "ArgMax", "BNLL": "BNLL",
    "CONCAT": "Concat", "CONTRASTIVE_LOSS": "ContrastiveLoss", "CONVOLUTION": "Convolution",
    "DATA": "Data", "DECONVOLUTION": "Deconvolution", "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData", "EUCLIDEAN_LOSS": "EuclideanLoss", "ELTWISE": "Eltwise",
    "EXP": "Exp", "FLATTEN": "Flatten", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss", "IM2COL": "Im2col", "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss", "INNER_PRODUCT": "InnerProduct", "LRN": "LRN",
    "MEMORY_DATA": "MemoryData", "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN", "POOLING": "Pooling", "POWER": "Power", "RELU": "ReLU", "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss", "SILENCE": "Silence",
    "SLICE": "Slice", "SOFTMAX": "Softmax", "SOFTMAX_LOSS": "SoftmaxWithLoss", "SPLIT": "Split",
    "TANH": "TanH", "THRESHOLD": "Threshold", "WINDOW_DATA": "WindowData",
}  # fmt: skip
# Of forks that have V1's enum: DeconvNet, U-Net. Any other name is kept as it is.
FORK_TYPES = {
    "BN": "BN", "CROP": "Crop", "DROPOUT_CHANNEL": "DropoutChannel",
    "ELTWISE_ACCURACY": "EltwiseAccuracy", "IMAGE_SEG_DATA": "ImageSegData", "PRELU": "PReLU",
    "PYTHON": "Python", "UNPOOLING": "Unpooling", "UPSAMPLE": "Upsample",
}  # fmt: skip

# V1's lists about blobs, and the names of the same fields in ``param { }``, in its order.
SPECS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


def upgrade(document: Document, changes: List[str]) -> Document:
    """V1 text in the current format."""
    message = read(document)
    numbers = message.layers.add().DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    by_number = {number: value.name for number, value in numbers.items()}
    del message.layers[-1]
    splices = Splices(document)
    forks: Dict[str, str] = {}
    for field in document.fields:
        if field.name == "layers":
            splices.splice(field.start, field.start + len("layers"), "layer")
    for layer in old_layers(document, message):
        kind = _type(splices, layer.block, by_number)
        if kind is not None:
            forks[kind[0]] = kind[1]
        _specs(splices, layer.block)
    for old, new in forks.items():
        changes.append(f"{old} is a fork's type, in no V1 format of BVLC's; written as {new!r}")
    return splices.rewritten()


def _type(splices: Splices, block: Value, by_number: Dict[int, str]) -> Optional[Tuple[str, str]]:
    """Make the type a string; returns the old and new type if it is a fork's."""
    for field in block.fields or []:
        if field.name != "type":
            continue
        value = field.values[0]
        name = splices.document.source(value)
        number = parse_integer(name)
        if number is not None:
            name = by_number.get(number, name)
        new = TYPES[name] if name in TYPES else FORK_TYPES.get(name, name)
        splices.splice(value.start, value.end, format_string(new, splices.quote))
        if name not in TYPES:
            return name, new
    return None


def _specs(splices: Splices, block: Value) -> None:
    """Replace the lists about blobs by one ``param { }`` per blob, where the first list was.

    Values are copied as they are written.
    """
    document = splices.document
    list_chunks = [chunk for chunk in chunks(document, block) if chunk.fields[0].name in SPECS]
    lists: Dict[str, List[str]] = {name: [] for name in SPECS}
    for chunk in list_chunks:
        for field in chunk.fields:
            lists[field.name] += [_written(document.source(value)) for value in field.values]
    specs = [
        (
            "param",
            [f"{SPECS[name]}: {values[n]}" for name, values in lists.items() if n < len(values)],
        )
        for n in range(max(map(len, lists.values())))
    ]
    for number, chunk in enumerate(joined(list_chunks)):
        if number == 0 and specs:
            replaced(splices, chunk, specs)
        else:
            splices.splice(chunk.start, chunk.end, *remains(splices, chunk))


def _written(source: str) -> str:
    """A value as it is written; of strings in several parts, one."""
    return format_string(parse_string(source)) if source[0] in "\"'" and "\n" in source else source
