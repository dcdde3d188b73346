"""Joins text and weights by layer name, as Net::CopyTrainedLayersFrom does (net.cpp).

Where Caffe would abort, a WeightsError names layer and blob; where it would run on silently
(weights that no layer takes, layers that the file has no weights for), a Note says so.
"""

from operator import itemgetter
from typing import Collection, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from caffe_merge.arrays import BlobShape, Shape, count
from caffe_merge.errors import NetError, ShapeError, WeightsError, about
from caffe_merge.layers import norms, shapes
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.fillers import Room, fill
from caffe_merge.layers.fork_fields import described, fills, has_unknown, misfit_notes
from caffe_merge.layers.layer import Layer
from caffe_merge.net import fitting, text_blobs, weight_notes
from caffe_merge.notes import Note
from caffe_merge.weights.blobs import Blob, Filled, Stored, same_values
from caffe_merge.weights.index import Index, LayerRecord

PERMISSIVE = 1  # ParamSpec.DimCheckMode
Held = Dict[Layer, List[Tuple[Optional[Blob], BlobShape]]]  # (blob or None if random, shape)


def weights(
    layers: Sequence[Layer],
    all_layers: Sequence[Layer],
    index: Optional[Index],
    notes: List[Note],
    input_shapes: Mapping[str, Shape],
) -> None:
    """Give every layer its blobs: from the file, else from fillers where they are deterministic.

    ``all_layers`` include those that the state leaves out: their weights are nobody's surplus.
    """
    by_name = index.by_name() if index else {}
    path = index.path if index else None
    taken = takers(layers, index.kind if index else "")
    stated = text_blobs.take(layers)
    shared: Dict[str, Stored] = {}
    held: Held = {}
    room = Room(strict=index is not None)
    inputs: Dict[str, Optional[Shape]] = {}
    unfit: List[fitting.Unfit] = []
    for layer, bottoms, tops in propagate(layers, input_shapes):
        if not bottoms:
            inputs.update(zip(layer.param.top, tops))
        record = by_name.get(layer.name) if taken[layer.name] is layer else None
        expected = expected_shapes(layer, bottoms)
        if record is not None:
            record = _with_shared(layer, record, expected, shared, path)
        from_text = record is None and expected != []
        stored = stated.get(layer) if from_text else record
        if stored is None:
            held[layer] = list(zip(_filled(layer, expected or (), room), expected or ()))
            continue
        blobs = fitting.fit(layer, stored, expected)
        if isinstance(blobs, fitting.Unfit):
            unfit.append(blobs._replace(path=None if from_text else path))
            continue
        held[layer] = [(blob, blob.shape) for blob in blobs]
        if not from_text:
            layer.record = record
            layer.load_blobs(blobs)
    notes += fitting.check(unfit, len(by_name), inputs)
    for layer in held:
        _check_specs(layer, len(held[layer]))
    _assign_all(held, stated)
    absorbed = norms.neutralise_absorbed(layers)
    notes += _notes(held, stated, absorbed, index is not None) + misfit_notes(layers)
    if index is not None:
        weight_notes.check_pair(index, layers, all_layers)
        weight_notes.surplus(index, set(taken), all_layers, notes)
        weight_notes.storage(index, notes)


def takers(layers: Sequence[Layer], kind: str) -> Dict[str, Layer]:
    """The layer that gets the weights of each name: the first one, from HDF5 the last (net.cpp)."""
    return {layer.name: layer for layer in (layers if kind == "hdf5" else reversed(layers))}


def top_shapes(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> Iterator[List[Optional[Shape]]]:
    """The shapes of each layer's tops in turn, None where they cannot be told."""
    for layer, _, tops in propagate(layers, input_shapes):
        yield [tops[n] if n < len(tops) else None for n in range(len(layer.param.top))]


def shapes_behind(layer: Layer, bottoms: Sequence[Optional[Shape]]) -> Sequence[Optional[Shape]]:
    """The shapes of the tops of ``layer``, as many as can be told.

    A layer with fields of a fork, or with bottoms that BVLC's does not take, may compute its shape
    in the fork's way: what it produces is not known. The latter is written down in ``misfit``.
    """
    layer.misfit = ""
    if has_unknown(layer):
        shapes.check_counts(layer.param)
        return ()
    try:
        return shapes.tops(described(layer), bottoms) or ()
    except ShapeError as error:
        if not layer.param.bottom:
            raise  # an input is as it is in every Caffe
        layer.misfit = error.detail
        return ()


def parameter_counts(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> List[Optional[int]]:
    """The number of values in each layer's blobs, loaded or not; None where it cannot be told."""
    counts: List[Optional[int]] = []
    for layer, bottoms, _ in propagate(layers, input_shapes):
        expected = expected_shapes(layer, bottoms)
        dims = [_dims(shape) for shape in expected or ()]
        if layer.blobs or not layer.missing:
            counts.append(layer.parameters)
        elif expected is None or None in dims:
            counts.append(None)
        else:
            counts.append(sum(count(shape) for shape in dims if shape is not None))
    return counts


def propagate(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> Iterator[Tuple[Layer, List[Optional[Shape]], Sequence[Optional[Shape]]]]:
    """Each layer with the shapes of its bottoms and tops.

    ``input_shapes`` gives those of blobs that the text does not, by blob name.
    """
    shape_of: Dict[str, Optional[Shape]] = {}
    inputs: Dict[str, Optional[Shape]] = {}
    for layer in layers:
        bottoms = [shape_of.get(name) for name in layer.param.bottom]
        with about(layer), fitting.explained(inputs):
            tops = shapes_behind(layer, bottoms)
        if not layer.param.bottom and any(name in input_shapes for name in layer.param.top):
            tops = [input_shapes.get(name) for name in layer.param.top]
        if not layer.param.bottom:
            inputs.update(zip(layer.param.top, tops))
        yield layer, bottoms, tops
        for number, name in enumerate(layer.param.top):
            shape_of[name] = tops[number] if number < len(tops) else None


def _with_shared(
    layer: Layer,
    record: LayerRecord,
    expected: Optional[List[BlobShape]],
    shared: Dict[str, Stored],
    path: Optional[str],
) -> Optional[LayerRecord]:
    """The record with the blobs that HDF5 leaves out because an earlier layer owns them.

    None if that owner is not in the file either: both run on their fillers. ``shared`` has the
    blobs so far by ``param { name }``.
    """
    blobs = list(record.blobs)
    names = [spec.name for spec in layer.param.param]
    if record.numbers is not None:
        held = dict(zip(record.numbers, blobs))
        number = max([len(expected or ()), *(index + 1 for index in held)])
        from_owners = {n: shared[name] for n, name in enumerate(names[:number]) if name in shared}
        blobs = [held.get(n, from_owners.get(n)) for n in range(number)]  # type: ignore[misc]
        if all(blob is None for blob in blobs):
            is_shared = number > 0 and len(names) >= number and all(names[:number])
            return None if is_shared else record._replace(blobs=())
        if None in blobs:
            message = "it is not in the file, and no layer before shares it"
            raise WeightsError(message, path=path, layer=layer.name, blob=blobs.index(None))  # type: ignore[arg-type]
        for n in set(from_owners) - set(held):
            dims = tuple(expected[n] or ()) if expected else ()
            if None not in dims and count(dims) == count(blobs[n].shape):  # type: ignore[arg-type]
                blobs[n] = blobs[n].reshaped(dims)  # type: ignore[arg-type]
    for name, blob in zip(names, blobs):
        if name:
            shared.setdefault(name, blob)
    return record._replace(blobs=tuple(blobs))


def expected_shapes(layer: Layer, bottoms: List[Optional[Shape]]) -> Optional[List[BlobShape]]:
    """The shapes that the blobs must have; None if that depends on a fork."""
    if has_unknown(layer) or norms.foreign_field(layer):
        return None
    known = [None] * len(bottoms) if layer.misfit else bottoms
    with about(layer):
        return shapes.blobs(described(layer), known)


def why_unfit(layer: Layer, bottoms: List[Optional[Shape]]) -> str:
    """How the blobs of ``layer`` do not suit bottoms of these shapes; "" where they may."""
    for blob, expected in zip(layer.blobs, expected_shapes(layer, bottoms) or ()):
        if expected is None or norms.foreign_field(layer) or layer.type in norms.TYPES:
            continue
        pairs = zip(expected, blob.shape)
        if len(expected) != len(blob.shape) or any(
            want not in (None, have) for want, have in pairs
        ):
            return f"expected weights of shape {tuple(expected)}, found {blob.shape}"
    return ""


def _check_specs(layer: Layer, blobs: int) -> None:
    """Raise NetError where the text has more ``param`` than the layer has blobs (net.cpp)."""
    if layer.type not in CATALOGUE:
        return  # of such a type a file may hold fewer blobs than it has
    is_sure = layer.record is not None or (blobs and layer.type not in norms.TYPES)
    if is_sure and len(layer.param.param) > blobs:
        number = len(layer.param.param)
        raise NetError(
            f"layer {layer.name!r} ({layer.type}): expected at most {blobs} param, one for each "
            f"of its blobs, found {number}",
            layer=layer,
            field="param",
            number=blobs,
        )


def _notes(
    held: Held, stated: Collection[Layer], absorbed: List[Note], has_file: bool
) -> List[Note]:
    """What layers without weights in the file run on; ``absorbed`` are notes on some of them."""
    explained = {note.layer for note in absorbed}
    others = [layer for layer in held if layer.name not in explained or layer in stated]
    return weight_notes.absent(others, stated, has_file) + absorbed


def _assign_all(held: Held, stated: Collection[Layer]) -> None:
    """Set the blobs of all layers, those of the text (``stated``) and shared ones too."""
    given = _share(held, stated)
    for layer, pairs in held.items():
        values = [blob for blob, _ in pairs]
        if layer in stated and layer.record is None:
            text_blobs.give(layer, values)
        else:
            _assign(layer, values, given.get(layer, 0))


def _assign(layer: Layer, blobs: Sequence[Optional[Blob]], from_others: int) -> None:
    """Set the blobs of ``layer``; without a record, ``from_others`` of them come from other layers.

    Shared blobs that its own record does not have are written with it, so that the file stays right
    whichever of the layers that share them are removed.
    """
    values = tuple(blob for blob in blobs if blob is not None)
    if layer.record is not None:
        layer.blobs = values
        if all(map(same_values, values, layer.loaded)):
            layer.loaded = values
        return
    if not blobs:
        return
    if len(values) < len(blobs):
        layer.missing = True
    elif from_others:
        layer.blobs = values
    else:
        layer.load_blobs(values)
    layer.filled = from_others < len(blobs) == len(values)


def _filled(layer: Layer, expected: Sequence[BlobShape], room: Room) -> List[Optional[Blob]]:
    """The values of Caffe's deterministic fillers; None for blobs of other fillers.

    All are None where one of them is, and no other layer can give it.
    """
    nothing: List[Optional[Blob]] = [None] * len(expected)
    if fills(layer) or (layer.extra and layer.type in norms.TYPES):
        return nothing
    names = [spec.name for spec in layer.param.param]
    blobs: List[Optional[Blob]] = []
    for number, (filler, shape) in enumerate(zip([*_fillers(layer), *nothing], expected)):
        dims = _dims(shape)
        values = None
        if filler is not None and dims is not None:
            with about(layer):
                values = fill(filler, dims, room, layer.name)
        blobs.append(None if values is None else Filled(values))
        if blobs[-1] is None and not any(names[number : number + 1]):
            return nothing
    return blobs


def _dims(shape: BlobShape) -> Optional[Shape]:
    """``shape`` if all of it is known."""
    dims = tuple(dim for dim in shape or () if dim is not None)
    return None if shape is None or len(dims) < len(shape) else dims


def _fillers(layer: Layer) -> Sequence[object]:
    """The fillers of a layer's blobs, in blob order."""
    param = layer.param
    zero = type(param.scale_param.filler)()
    if layer.type in ("Convolution", "Deconvolution"):
        convolution = param.convolution_param
        return convolution.weight_filler, convolution.bias_filler
    if layer.type == "InnerProduct":
        return param.inner_product_param.weight_filler, param.inner_product_param.bias_filler
    if layer.type == "BatchNorm":
        return zero, zero, zero
    if layer.type == "Scale":
        scale = param.scale_param
        ones = type(zero)(type="constant", value=1)
        factor = [scale.filler if scale.HasField("filler") else ones]
        return [*(factor if len(param.bottom) == 1 else []), scale.bias_filler]
    if layer.type == "Bias":
        return (param.bias_param.filler,)
    if layer.type == "PReLU":
        slope = type(zero)(type="constant", value=0.25)
        return (param.prelu_param.filler if param.prelu_param.HasField("filler") else slope,)
    return ()


def shared_blobs(layers: Sequence[Layer]) -> Dict[str, List[Tuple[Layer, int]]]:
    """The blobs under each non-empty ``param { name }``, in net order."""
    groups: Dict[str, List[Tuple[Layer, int]]] = {}
    for layer in layers:
        for number, spec in enumerate(layer.param.param):
            if spec.name:
                groups.setdefault(spec.name, []).append((layer, number))
    return groups


def _share(held: Held, stated: Collection[Layer]) -> Dict[Layer, int]:
    """Give layers that share a blob the same values: the last in the file, else the first filler.

    ``held`` has the blobs of each layer and their shapes; those that are shared are replaced.
    ``stated`` have theirs in the text. Returns how many blobs of a layer the files give.
    Raises NetError where Caffe would not share (net.cpp, AppendParam): STRICT wants
    equal shapes, PERMISSIVE equal counts.
    """
    from_file: Dict[Layer, int] = {}
    for name, group in shared_blobs(list(held)).items():
        slots = [(layer, n) for layer, n in group if n < len(held[layer])]
        if len(slots) < 2:
            continue
        stored = [(layer.record.at, n, held[layer][n][0]) for layer, n in slots if layer.record]
        first, number = slots[0]
        source = max(stored, key=itemgetter(0, 1))[2] if stored else held[first][number][0]
        owner_shape: Optional[Shape] = None
        for layer, n in slots:
            expected = held[layer][n][1]
            if source is None:  # random
                held[layer][n] = None, expected
                continue
            from_file[layer] = from_file.get(layer, 0) + (bool(stored) or first in stated)
            dims = _dims(expected)
            shape = source.shape if dims is None else dims
            owner_shape = shape if owner_shape is None else owner_shape
            permissive = layer.param.param[n].share_mode == PERMISSIVE
            if shape != owner_shape and not (permissive and count(shape) == count(owner_shape)):
                raise NetError(
                    f"layer {layer.name!r}: blob {n} has shape {shape} and shares {name!r} with "
                    f"layer {first.name!r}, where it has shape {owner_shape}",
                    layer=layer,
                    field="param",
                    number=n,
                )
            held[layer][n] = source if source.shape == shape else source.reshaped(shape), shape
    return from_file
