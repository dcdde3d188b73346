"""V0 text, ``layers { layer { type: "conv" kernelsize: 3 } }``, as V1 (UpgradeV0Net).

V0 has one flat message for the parameters of all types. Each parameter moves to the message of its
layer's type and gets its name there; the inner ``layer`` block is unwrapped.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.text.chunks import (
    APART,
    Chunk,
    chunks,
    comments,
    gapped,
    joined,
    remains,
    rest_of_line,
    shifted,
)
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.splices import Piece, Splices
from caffe_merge.formats.text.syntax import Document, Field, Value
from caffe_merge.formats.text.upgrade.reading import OldLayer, old_layers, read
from caffe_merge.wording import named


class Kind(NamedTuple):
    """A V0 type: its V1 name, and the message of its parameters."""

    name: str
    param: str = ""


KINDS = {
    "accuracy": Kind("ACCURACY"),
    "bnll": Kind("BNLL"),
    "concat": Kind("CONCAT", "concat_param"),
    "conv": Kind("CONVOLUTION", "convolution_param"),
    "data": Kind("DATA", "data_param"),
    "dropout": Kind("DROPOUT", "dropout_param"),
    "euclidean_loss": Kind("EUCLIDEAN_LOSS"),
    "flatten": Kind("FLATTEN"),
    "hdf5_data": Kind("HDF5_DATA", "hdf5_data_param"),
    "hdf5_output": Kind("HDF5_OUTPUT"),
    "im2col": Kind("IM2COL"),
    "images": Kind("IMAGE_DATA", "image_data_param"),
    "infogain_loss": Kind("INFOGAIN_LOSS", "infogain_loss_param"),
    "innerproduct": Kind("INNER_PRODUCT", "inner_product_param"),
    "lrn": Kind("LRN", "lrn_param"),
    "multinomial_logistic_loss": Kind("MULTINOMIAL_LOGISTIC_LOSS"),
    "pool": Kind("POOLING", "pooling_param"),
    "relu": Kind("RELU"),
    "sigmoid": Kind("SIGMOID"),
    "softmax": Kind("SOFTMAX"),
    "softmax_loss": Kind("SOFTMAX_LOSS"),
    "split": Kind("SPLIT"),
    "tanh": Kind("TANH"),
    "window_data": Kind("WINDOW_DATA", "window_data_param"),
}

# V0 field -> its name in its type's message, and the types that have it.
_WEIGHTS = ("conv", "innerproduct")
_WINDOWS = ("conv", "pool")
FIELDS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "num_output": ("num_output", _WEIGHTS),
    "biasterm": ("bias_term", _WEIGHTS),
    "weight_filler": ("weight_filler", _WEIGHTS),
    "bias_filler": ("bias_filler", _WEIGHTS),
    "pad": ("pad", _WINDOWS),
    "kernelsize": ("kernel_size", _WINDOWS),
    "group": ("group", ("conv",)),
    "stride": ("stride", _WINDOWS),
    "pool": ("pool", ("pool",)),
    "dropout_ratio": ("dropout_ratio", ("dropout",)),
    "local_size": ("local_size", ("lrn",)),
    "alpha": ("alpha", ("lrn",)),
    "beta": ("beta", ("lrn",)),
    "k": ("k", ("lrn",)),
    "source": ("source", ("data", "hdf5_data", "images", "window_data", "infogain_loss")),
    "batchsize": ("batch_size", ("data", "hdf5_data", "images", "window_data")),
    "rand_skip": ("rand_skip", ("data", "images")),
    "shuffle_images": ("shuffle", ("images",)),
    "new_height": ("new_height", ("images",)),
    "new_width": ("new_width", ("images",)),
    "concat_dim": ("concat_dim", ("concat",)),
    "det_fg_threshold": ("fg_threshold", ("window_data",)),
    "det_bg_threshold": ("bg_threshold", ("window_data",)),
    "det_fg_fraction": ("fg_fraction", ("window_data",)),
    "det_context_pad": ("context_pad", ("window_data",)),
    "det_crop_mode": ("crop_mode", ("window_data",)),
}
# Of every type, in transform_param.
TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
_STAY = ("name", "type", "blobs", "blobs_lr", "weight_decay")
_NET_STAYS = ("name", "layers", "input", "input_dim", "force_backward")


def is_v0(message: Any) -> bool:
    """Whether an old net is of this format: whether any of its layers is."""
    return any(layer.HasField("layer") for layer in message.layers)


def upgrade(document: Document, changes: List[str]) -> Document:
    """V0 text in the V1 format; V1 text is returned as it is."""
    message = read(document)
    if not is_v0(message):
        return document
    edits = Edits(document)
    dropped: List[str] = []
    fields_by_name = NetParameter.DESCRIPTOR.fields_by_name
    for field in document.fields:
        if field.name in fields_by_name and field.name not in _NET_STAYS:
            edits.remove(field)
            dropped.append(field.name)
    for old in old_layers(document, message):
        if not old.param.HasField("layer"):
            document.fail(old.block.start, "expected a V0 layer as the net's others, found V1")
        dropped += _LayerUpgrade(edits, old).make()
    if dropped:
        changes.append(
            f"left out, as Caffe's own upgrade does it: {named(list(dict.fromkeys(dropped)))}"
        )
    return edits.rewritten()


class _LayerUpgrade:
    """Rewrites one ``layers { layer { } bottom top }`` as one block."""

    def __init__(self, splices: Splices, old: OldLayer) -> None:
        self.splices = splices
        self.document = splices.document
        self.old = old
        self.type = str(old.param.layer.type)
        self.dropped: List[str] = []

    def make(self) -> List[str]:
        """Rewrite the block; returns the fields that are left out."""
        fields_by_name = self.old.param.DESCRIPTOR.fields_by_name
        dropped_chunks = []
        for chunk in chunks(self.document, self.old.block):
            name = chunk.fields[0].name
            if name == "layer":
                self.splices.splice(chunk.start, chunk.end, *self.unwrapped(chunk))
            elif name in fields_by_name and name not in ("bottom", "top"):
                dropped_chunks.append(chunk)
                self.dropped.append(name)
        for chunk in joined(dropped_chunks):
            self.splices.splice(chunk.start, chunk.end, *remains(self.splices, chunk))
        return [f"{self.old.param.layer.name}: {name}" for name in self.dropped]

    def unwrapped(self, outer: Chunk) -> Iterator[Piece]:
        """The pieces of ``layer { ... }`` without the block around them."""
        document = self.document
        block = outer.fields[0].values[0]
        inner = chunks(document, block)
        head = (block.start + 1, rest_of_line(document, block.start + 1))
        foot = (inner[-1].end if inner else head[1], block.end - 1)
        last = max(document.text.rfind("\n", *foot) + 1, foot[0])  # where the line of "}" starts
        remove = self.surplus(outer, inner)
        yield outer.lead
        above = comments(document, (outer.at, head[1]))
        for comment in above:
            yield from (outer.indent, comment + document.newline)
        if not above and not outer.opens:
            yield head
        elif not above and inner and not inner[0].opens:  # it goes on where the block began
            yield outer.indent
            inner[0] = inner[0]._replace(start=inner[0].at)
        body = list(gapped(document, self.body(inner, remove)))
        yield from body
        if comments(document, foot):
            yield from shifted(document, (foot[0], last), remove, "")
        if not outer.closes and last > foot[0]:
            yield last, foot[1]
        elif not outer.closes and document.text[outer.end] not in APART:
            yield " "
        behind = comments(document, (block.end, outer.end))
        for comment in behind:
            yield from (outer.indent, comment + document.newline)
        if not behind and not (_ends_line(document, body[-1]) if body else outer.opens):
            yield outer.tail

    def surplus(self, outer: Chunk, inner: Sequence[Chunk]) -> str:
        """The indent that lines inside have only because of the inner block."""
        text = self.document.text
        first = next((text[chunk.line : chunk.at] for chunk in inner if chunk.opens), "")
        if not first:
            return ""
        start = outer.line if outer.opens else text.rfind("\n", 0, outer.at) + 1
        indent = text[start : outer.at]
        if not outer.opens:
            indent = indent[: len(indent) - len(indent.lstrip(" \t"))] + self.splices.unit
        return first[len(indent) :] if first.startswith(indent) else ""

    def body(self, inner: Sequence[Chunk], remove: str) -> Iterator[Piece]:
        """The fields; those of one message come together where the first of them was."""
        targets = [self.target(chunk.fields[0]) for chunk in inner]
        dropped_chunks = [chunk for chunk, target in zip(inner, targets) if target is None]
        dropped_at = {chunk.start: chunk for chunk in joined(dropped_chunks)}
        done = {""}
        for chunk, target in zip(inner, targets):
            if target is None:
                if chunk.start in dropped_at:
                    for piece in remains(self.splices, dropped_at[chunk.start]):
                        if isinstance(piece, str):
                            yield piece
                        else:
                            yield from shifted(self.document, piece, remove, "")
            elif target == "":
                yield from self.kept(chunk, remove, "")
            elif target not in done:
                done.add(target)
                group = [member for member, other in zip(inner, targets) if other == target]
                yield from self.wrapped(target, group, remove)

    def target(self, field: Field) -> Optional[str]:
        """The message that a field moves to: "" is the layer itself, None means it is dropped."""
        name = field.name
        if name in TRANSFORM:
            return "transform_param"
        fields_by_name = self.old.param.layer.DESCRIPTOR.fields_by_name
        if name in _STAY or name not in fields_by_name or self.type not in KINDS:
            return ""
        if name == "hdf5_output_param" and self.type == "hdf5_output":
            return ""
        if self.type in FIELDS.get(name, ("", ()))[1]:
            return KINDS[self.type].param
        self.dropped.append(name)
        return None

    def wrapped(self, target: str, group: Sequence[Chunk], remove: str) -> Iterator[Piece]:
        """``target { ... }`` around some fields."""
        document, newline = self.document, self.document.newline
        first, last = group[0], group[-1]
        if first.opens and all(chunk.closes for chunk in group):
            indent = document.text[slice(*first.indent)]
            indent = indent[: len(indent) - len(remove)] if indent.endswith(remove) else indent
            yield from shifted(document, first.lead, remove, "")
            yield f"{indent}{target} {{{newline}"
            for chunk in [first._replace(start=first.lead[1]), *group[1:]]:
                yield from self.kept(chunk, remove, self.splices.unit)
            yield f"{indent}}}{newline}"
            return
        yield from shifted(document, (first.start, first.at), remove, "")
        yield f"{target} {{ "
        for chunk in group:
            start = first.at if chunk is first else chunk.start
            stop = last.stop if chunk is last else chunk.end
            yield from self.kept(chunk._replace(start=start, end=stop), remove, "")
        yield " }"
        yield last.tail

    def kept(self, chunk: Chunk, remove: str, add: str) -> Iterator[Piece]:
        """A field with its blanks and comments, with its new name and indent."""
        field = chunk.fields[0]
        start, end = field.start, field.start
        new = ""
        if field.name in TRANSFORM or field.name in FIELDS:
            end += len(field.name)
            new = TRANSFORM.get(field.name) or FIELDS[field.name][0]
        if field.name == "type":
            start, end = field.values[0].start, field.values[0].end
            between = comments(self.document, (start, end))  # the parts of a string
            new = "".join(comment + self.document.newline for comment in between)
            new += self.v1_type(field.values[0])
        if self.target(field) == "" and field.name != "type":
            start, end, new = field.start, field.start, ""
        yield from shifted(self.document, (chunk.start, start), remove, add)
        yield new
        yield from shifted(self.document, (end, chunk.end), remove, add)

    def v1_type(self, value: Value) -> str:
        """The V1 type; a fork's type keeps its name if that is an identifier."""
        if self.type in KINDS:
            return KINDS[self.type].name
        if not self.type.isidentifier() or not self.type.isascii():
            self.document.fail(value.start, f"expected a V0 layer type, found {self.type!r}")
        return self.type


def _ends_line(document: Document, piece: Piece) -> bool:
    return (piece if isinstance(piece, str) else document.text[slice(*piece)]).endswith("\n")
