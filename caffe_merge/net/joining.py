"""Joins text and weights by layer name, as Net::CopyTrainedLayersFrom does (net.cpp).

Where Caffe would abort, a WeightsError names layer and blob; where it would run on without a word
(weights that no layer takes, layers that the file has no weights for), a Note says so.
"""

from operator import itemgetter
from typing import Collection, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from caffe_merge.arrays import BlobShape, Shape, count
from caffe_merge.errors import NetError, WeightsError
from caffe_merge.layers import norms, shapes
from caffe_merge.layers.fillers import fill
from caffe_merge.layers.fork_fields import described, fills, has_unknown
from caffe_merge.layers.layer import Layer
from caffe_merge.net import text_blobs, weight_notes
from caffe_merge.notes import Note
from caffe_merge.weights.blobs import Blob, Dense, Stored, same_values
from caffe_merge.weights.index import Index, LayerRecord

PERMISSIVE = 1  # ParamSpec.DimCheckMode
Held = Dict[Layer, List[Tuple[Optional[Blob], BlobShape]]]  # blobs, None if random; their shapes
MAX_FILLED = 1 << 26  # values made from fillers; more is not a net but an attack


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
    owned: Dict[str, Stored] = {}
    held: Held = {}
    for layer, bottoms, _ in _propagate(layers, input_shapes):
        record = by_name.get(layer.name) if taken[layer.name] is layer else None
        wanted = _wanted(layer, bottoms)
        if record is not None:
            record = _whole(layer, record, wanted, owned, path)
        if record is not None:
            layer.record = record
            layer.load_blobs(_fit(layer, record, wanted, path))
            held[layer] = [(blob, blob.shape) for blob in layer.blobs]
        elif layer in stated and wanted != []:
            blobs = _fit(layer, stated[layer], wanted, None)
            held[layer] = [(blob, blob.shape) for blob in blobs]
        else:
            held[layer] = list(zip(_filled(layer, wanted or ()), wanted or ()))
    for layer in held:
        _check_specs(layer, len(held[layer]))
    given = _share(held, stated)
    for layer, shared in held.items():
        values = [blob for blob, _ in shared]
        if layer in stated and layer.record is None:
            text_blobs.give(layer, values, notes)
        else:
            _give(layer, values, given.get(layer, 0), notes, index is not None)
    norms.neutralise_absorbed(layers, notes)
    if index is not None:
        weight_notes.surplus(index, set(taken), all_layers, notes)
        weight_notes.storage(index, notes)


def takers(layers: Sequence[Layer], kind: str) -> Dict[str, Layer]:
    """The layer that gets the weights of each name: the first one, from HDF5 the last (net.cpp)."""
    return {layer.name: layer for layer in (layers if kind == "hdf5" else reversed(layers))}


def top_shapes(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> Iterator[List[Optional[Shape]]]:
    """The shapes of each layer's tops in turn, None where they cannot be told."""
    for layer, _, tops in _propagate(layers, input_shapes):
        yield [tops[n] if n < len(tops) else None for n in range(len(layer.param.top))]


def shapes_behind(layer: Layer, bottoms: Sequence[Optional[Shape]]) -> Sequence[Optional[Shape]]:
    """The shapes of the tops of ``layer``, as many as can be told.

    A layer with fields of a fork may compute its shape in the fork's way: what it produces is not
    known.
    """
    if has_unknown(layer):
        shapes.check_counts(layer.param)
        return ()
    return shapes.tops(described(layer), bottoms) or ()


def parameter_counts(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> List[Optional[int]]:
    """The number of values in each layer's blobs, loaded or not; None where it cannot be told."""
    counts: List[Optional[int]] = []
    for layer, bottoms, _ in _propagate(layers, input_shapes):
        wanted = _wanted(layer, bottoms)
        dims = [_dims(shape) for shape in wanted or ()]
        if layer.blobs or not layer.missing:
            counts.append(layer.parameters)
        elif wanted is None or None in dims:
            counts.append(None)
        else:
            counts.append(sum(count(shape) for shape in dims if shape is not None))
    return counts


def _propagate(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> Iterator[Tuple[Layer, List[Optional[Shape]], Sequence[Optional[Shape]]]]:
    """Each layer with the shapes of its bottoms and tops.

    ``input_shapes`` gives those of blobs that the text does not, by blob name.
    """
    known: Dict[str, Optional[Shape]] = {}
    for layer in layers:
        bottoms = [known.get(name) for name in layer.param.bottom]
        tops = shapes_behind(layer, bottoms)
        if not layer.param.bottom and any(name in input_shapes for name in layer.param.top):
            tops = [input_shapes.get(name) for name in layer.param.top]
        yield layer, bottoms, tops
        for number, name in enumerate(layer.param.top):
            known[name] = tops[number] if number < len(tops) else None


def _whole(
    layer: Layer,
    record: LayerRecord,
    wanted: Optional[List[BlobShape]],
    owned: Dict[str, Stored],
    path: Optional[str],
) -> Optional[LayerRecord]:
    """The record with the blobs that HDF5 leaves out: those that an earlier layer owns.

    None if that owner is not in the file either: both run on their fillers. ``owned`` are the
    blobs that were met under each ``param { name }``.
    """
    blobs = list(record.blobs)
    names = [spec.name for spec in layer.param.param]
    if record.numbers is not None:
        held = dict(zip(record.numbers, blobs))
        number = max([len(wanted or ()), *(one + 1 for one in held)])
        shared = {n: owned[name] for n, name in enumerate(names[:number]) if name in owned}
        blobs = [held.get(n, shared.get(n)) for n in range(number)]  # type: ignore[misc]
        if all(blob is None for blob in blobs):
            is_shared = number > 0 and len(names) >= number and all(names[:number])
            return None if is_shared else record._replace(blobs=())
        if None in blobs:
            message = "it is not in the file, and no layer before shares it"
            raise WeightsError(message, path=path, layer=layer.name, blob=blobs.index(None))  # type: ignore[arg-type]
        for n in set(shared) - set(held):
            dims = tuple(wanted[n] or ()) if wanted else ()
            if None not in dims and count(dims) == count(blobs[n].shape):  # type: ignore[arg-type]
                blobs[n] = blobs[n].reshaped(dims)  # type: ignore[arg-type]
    for name, blob in zip(names, blobs):
        if name:
            owned.setdefault(name, blob)
    return record._replace(blobs=tuple(blobs))


def _wanted(layer: Layer, bottoms: List[Optional[Shape]]) -> Optional[List[BlobShape]]:
    """The blobs that the layer must have; None if a fork may have it want others."""
    if has_unknown(layer) or norms.foreign_field(layer):
        return None
    return shapes.blobs(described(layer), bottoms)


def _fit(
    layer: Layer, record: LayerRecord, wanted: Optional[List[BlobShape]], path: Optional[str]
) -> List[Blob]:
    if wanted is None or norms.fits_a_style(layer, record.blobs, wanted):
        return list(record.blobs)
    if len(wanted) != len(record.blobs):
        raise WeightsError(
            f"expected {len(wanted)} blobs for a {layer.type}, found {len(record.blobs)}",
            path=path,
            layer=layer.name,
        )
    blobs: List[Blob] = []
    for number, (blob, shape) in enumerate(zip(record.blobs, wanted)):
        fitted = _reshaped(blob, shape)
        if fitted is None:
            raise WeightsError(
                f"expected shape {_show(shape)}, found {blob.shape}",
                path=path,
                layer=layer.name,
                blob=number,
            )
        blobs.append(fitted)
    return blobs


def _check_specs(layer: Layer, blobs: int) -> None:
    """Raise NetError where the text has more ``param`` than the layer has blobs (net.cpp)."""
    is_sure = layer.record is not None or (blobs and layer.type not in norms.TYPES)
    if is_sure and len(layer.param.param) > blobs:
        number = len(layer.param.param)
        raise NetError(
            f"layer {layer.name!r} ({layer.type}): expected at most {blobs} param, one for each "
            f"of its blobs, found {number}"
        )


def _reshaped(blob: Stored, wanted: BlobShape) -> Optional[Stored]:
    """The blob under the shape Caffe wants (ShapeEquals, blob.cpp); None if it does not fit."""
    if wanted is None:
        return blob
    found = blob.shape
    if blob.legacy and len(wanted) <= 4:
        extra = 4 - len(wanted)
        if any(dim != 1 for dim in found[:extra]):
            return None
        found = found[extra:]
    if len(found) != len(wanted):
        return None
    if any(want is not None and want != have for want, have in zip(wanted, found)):
        return None
    return blob.reshaped(found) if blob.legacy else blob


def _show(shape: BlobShape) -> str:
    dims = ["?" if dim is None else str(dim) for dim in shape or ()]
    return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"


def _give(
    layer: Layer, blobs: Sequence[Optional[Blob]], given: int, notes: List[Note], loud: bool
) -> None:
    """Have ``layer`` run on ``blobs``; of one without a record, ``given`` are those of others.

    What its own record does not say is written with it, so that the file stays true whichever of
    the layers that share a blob go.
    """
    known = tuple(blob for blob in blobs if blob is not None)
    if layer.record is not None:
        layer.blobs = known
        if all(map(same_values, known, layer.loaded)):
            layer.loaded = known
        return
    if not blobs:
        return
    kind, how = "filler-weights", "it runs on its fillers, as in Caffe"
    if len(known) < len(blobs):
        layer.missing = True
        kind, how = "missing-weights", "Caffe would run it on random or unknown fillers"
    elif given:
        layer.blobs = known
    else:
        layer.load_blobs(known)
    layer.filled = given < len(blobs) == len(known)
    if loud and (layer.filled or layer.missing):
        notes.append(
            Note(kind, layer.name, f"the file has no weights for this {layer.type}; {how}")
        )


def _filled(layer: Layer, wanted: Sequence[BlobShape]) -> List[Optional[Blob]]:
    """The blobs that Caffe's deterministic fillers would make; None for those that are not known.

    All are None where one of them is, and no other layer can give it.
    """
    nothing: List[Optional[Blob]] = [None] * len(wanted)
    if fills(layer) or (layer.extra and layer.type in norms.TYPES):
        return nothing
    names = [spec.name for spec in layer.param.param]
    blobs: List[Optional[Blob]] = []
    for number, (filler, shape) in enumerate(zip([*_fillers(layer), *nothing], wanted)):
        blobs.append(_values(filler, shape))
        if blobs[-1] is None and not any(names[number : number + 1]):
            return nothing
    return blobs


def _values(filler: Optional[object], shape: BlobShape) -> Optional[Blob]:
    dims = _dims(shape)
    if filler is None or dims is None or count(dims) > MAX_FILLED:
        return None
    values = fill(filler, dims)
    return None if values is None else Dense(values)


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
        one = type(zero)(type="constant", value=1)
        factor = [scale.filler if scale.HasField("filler") else one]
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
    """Layers that share a blob run on one copy: what the file gives last, else the first filler.

    ``held`` has the blobs of each layer and their shapes; those that are shared are replaced.
    ``stated`` have theirs in the text. Returns how many blobs of a layer the files give.
    Raises NetError where Caffe would not share (net.cpp, AppendParam): STRICT wants
    equal shapes, PERMISSIVE equal counts.
    """
    given: Dict[Layer, int] = {}
    for name, group in shared_blobs(list(held)).items():
        slots = [(layer, n) for layer, n in group if n < len(held[layer])]
        if len(slots) < 2:
            continue
        stored = [(layer.record.at, n, held[layer][n][0]) for layer, n in slots if layer.record]
        first, number = slots[0]
        winner = max(stored, key=itemgetter(0, 1))[2] if stored else held[first][number][0]
        owner: Optional[Shape] = None
        for layer, n in slots:
            wanted = held[layer][n][1]
            if winner is None:  # random
                held[layer][n] = None, wanted
                continue
            given[layer] = given.get(layer, 0) + (bool(stored) or first in stated)
            dims = _dims(wanted)
            shape = winner.shape if dims is None else dims
            owner = shape if owner is None else owner
            permissive = layer.param.param[n].share_mode == PERMISSIVE
            if shape != owner and not (permissive and count(shape) == count(owner)):
                raise NetError(
                    f"layer {layer.name!r}: blob {n} has shape {shape} and shares {name!r} with "
                    f"layer {first.name!r}, where it has shape {owner}"
                )
            held[layer][n] = winner if winner.shape == shape else winner.reshaped(shape), shape
    return given
