"""Outlines of a text and of a weights file, to decide whether they belong to the same net.

Both are read once, however many of the other kind they are held against, and no values are read.
"""

from typing import FrozenSet, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from caffe_merge.arrays import Shape, count
from caffe_merge.errors import NetError
from caffe_merge.formats.text.syntax import Document
from caffe_merge.formats.weights.index import Index
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.state import State
from caffe_merge.net import data_layers
from caffe_merge.net.loading import Net
from caffe_merge.net.propagation import expected_shapes, propagate

# The names of layers that have blobs, and the blobs' shapes without dimensions of 1 in front: in
# old files every blob has four.
Key = FrozenSet[Tuple[str, Tuple[Shape, ...]]]


class Outline(NamedTuple):
    """What of a text says which weights are its own.

    ``layers`` are all names, those that the state leaves out included; ``learned`` those of layers
    whose blobs a file must have. ``key`` is None where the text alone does not tell all shapes.
    ``training`` says whether it has data layers or losses. The numbers of values in the largest
    layer's blobs, in the largest top, and in all tops together are as far as shapes are known.
    """

    layers: FrozenSet[str]
    learned: FrozenSet[str]
    key: Optional[Key]
    training: bool
    largest_layer: int
    largest_top: int
    all_tops: int


def of_document(
    document: Document, state: State, input_shapes: Optional[Mapping[str, Shape]] = None
) -> Outline:
    """The outline of a text that is in the current format (``loading.read_document``).

    Raises as caffe_merge.load does, of a text alone.
    """
    net = Net(document, None, state)
    if not net.layers:
        raise NetError("no layers in it", path=document.path)
    return of_net(net, input_shapes or {})


def of_net(net: Net, input_shapes: Mapping[str, Shape]) -> Outline:
    """The outline of a net that was read without weights, or with them."""
    params = [layer.param for layer in net.layers]
    learned: Set[str] = set()
    key: Set[Tuple[str, Tuple[Shape, ...]]] = set()
    owned: Set[str] = set()  # the names of shared blobs that an earlier layer has
    is_sure = True
    largest_layer = largest_top = all_tops = 0
    for layer, bottoms, tops in propagate(net.layers, input_shapes):
        values = [count(top) for top in tops if top is not None]
        largest_top = max([largest_top, *values])
        all_tops += sum(values)
        expected = expected_shapes(layer, bottoms)
        is_sure = is_sure and expected is not None
        if not expected or _is_stated(layer):
            continue
        shapes = [shape for shape in expected if shape is not None]
        dims = [tuple(dim for dim in shape if dim is not None) for shape in shapes]
        is_sure = is_sure and dims == expected and layer.name not in learned
        largest_layer = max(largest_layer, sum(map(count, dims)))
        key.add((layer.name, tuple(map(_trimmed, dims))))
        if not _is_shared(layer, len(expected), owned):
            learned.add(layer.name)
        owned.update(spec.name for spec in layer.param.param if spec.name)
    return Outline(
        layers=frozenset(layer.name for layer in net.all_layers),
        learned=frozenset(learned),
        key=frozenset(key) if is_sure else None,
        training=bool(data_layers.data_layers(params)) or any(map(data_layers.is_loss, params)),
        largest_layer=largest_layer,
        largest_top=largest_top,
        all_tops=all_tops,
    )


def of_weights(index: Index) -> Key:
    """The key of a weights file."""
    return frozenset(
        (name, tuple(_trimmed(blob.shape) for blob in record.blobs))
        for name, record in index.by_name().items()
        if record.blobs
    )


def _trimmed(shape: Sequence[int]) -> Shape:
    first = next((at for at, dim in enumerate(shape) if dim != 1), len(shape))
    return tuple(shape[first:])


def _is_stated(layer: Layer) -> bool:
    """Whether its weights stand in the text itself."""
    return len(layer.param.blobs) > 0


def _is_shared(layer: Layer, blobs: int, owned: "set[str]") -> bool:
    """Whether earlier layers own all of its ``blobs``: HDF5 leaves them out then."""
    names = [spec.name for spec in layer.param.param][:blobs]
    return len(names) == blobs and owned.issuperset(names)
