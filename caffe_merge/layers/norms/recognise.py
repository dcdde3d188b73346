"""The style of a layer, and what follows from it: its affine map, notes, refusals."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import BlobShape, Shape, count
from caffe_merge.arrays import Float64 as Vector
from caffe_merge.errors import OptionName, Text, WeightsError
from caffe_merge.formats.weights.blobs import DOUBLE, Blob, Dense
from caffe_merge.layers.fork_fields import unknown_field, unknown_fields
from caffe_merge.layers.layer import Layer, remembered
from caffe_merge.layers.norms import formulas
from caffe_merge.layers.norms.formulas import SINGLES
from caffe_merge.layers.norms.rules import FLAG_FALSE, BlockFields
from caffe_merge.layers.norms.styles import OF_TYPE, TYPES, Style, block_fields, blocks
from caffe_merge.layers.shapes.forks import NORMALISED
from caffe_merge.layers.spec import ForkFields
from caffe_merge.notes import UNKNOWN, Note, Reason
from caffe_merge.wording import counted

Terms = Tuple[Any, Tuple[Blob, ...]]


@remembered
def style_of(layer: Layer) -> Union[Style, Reason]:
    """The style of ``layer``, or why none is certain.

    Raises WeightsError where its values are not finite or a variance is negative.
    """
    reason = unknown_fields(layer)
    if reason is not None:
        return reason
    if layer.missing or not layer.blobs:
        return Reason("the file has no weights for it", UNKNOWN)
    odd_name = foreign_field(layer)
    if odd_name is not None:
        return unknown_field(odd_name)
    fields = block_fields(layer)
    shapes = [blob.shape for blob in layer.blobs]
    fitting = [style for style in OF_TYPE.get(layer.type, ()) if _fits(style, shapes)]
    if not fitting:
        return Reason(f"no {layer.type} that is known has blobs of shapes {shapes}")
    chosen = [style for style in fitting if style.name == layer.style]
    if chosen:
        return chosen[0]
    candidates = [style for style in fitting if _explains(style, fields, layer)]
    if not candidates:
        names = ", ".join(sorted(fields)) or "(none)"
        described = f"{counted(len(shapes), 'blob')} and the fields {names}"
        text = f"no {layer.type} that is known has {described}"
        return Reason(Text(text, _ask(fitting)))
    return candidates[0] if len(candidates) == 1 else _distinguished(layer, candidates, fields)


def _distinguished(
    layer: Layer, candidates: List[Style], fields: BlockFields
) -> Union[Style, Reason]:
    """The first of several ``candidates`` if all compute the same from this layer's blobs."""
    results: List[Tuple[Style, Affine]] = []
    reasons: List[Optional[str]] = []
    for style in candidates:
        try:
            results.append((style, _affine(layer, style)))
            reasons.append(style.statistics(layer, fields))
        except WeightsError:
            continue  # a negative variance: it is not of this style
    if not results:
        return candidates[0]  # the error is raised again where the values are used
    style, first_map = results[0]
    if all(_close(first_map, other) for _, other in results[1:]) and len(set(reasons)) == 1:
        return style
    names = list(dict.fromkeys(style.name for style, _ in results))
    text = f"it may be a {layer.type} of {' or '.join(names)}"
    return Reason(Text(text, _ask(candidates)))


def _ask(styles: List[Style]) -> Text:
    names = ", ".join(dict.fromkeys(style.name for style in styles))
    return Text("; say which with ", OptionName("bn_style"), f" ({names})")


def _close(first: Affine, second: Affine) -> bool:
    size = np.abs(first.shift) + np.abs(first.scale)
    return np.allclose(first.scale, second.scale, rtol=1e-9, atol=0) and bool(
        (np.abs(first.shift - second.shift) <= 1e-9 * size).all()
    )


def _fits(style: Style, shapes: Sequence[Shape]) -> bool:
    """Whether blobs of ``shapes`` are as many and as large as the style's."""
    if len(shapes) != len(style.order):
        return False
    sizes = set()
    for name, shape in zip(style.order, shapes):
        if name in SINGLES:
            if count(shape) != 1:
                return False
        elif len([dim for dim in shape if dim != 1]) > 1:
            return False
        else:
            sizes.add(count(shape))
    have_four_axes = all(len(shape) == 4 and shape[1] == count(shape) for shape in shapes)
    if "unused" in style.order or "factor" in style.order:
        if style.four_axes and not have_four_axes:
            return False
        rivals = style.order[2] in SINGLES and len(style.order) == 5
        if have_four_axes and rivals and not style.four_axes:
            return False
    return len(sizes) == 1


def _explains(style: Style, fields: BlockFields, layer: Layer) -> bool:
    """Whether the style has all fields of the layer, and its factor."""
    if style.only_by_flag or not fields.keys() <= style.fields:
        return False
    if style.needs and not any(_is_given(need, fields) for need in style.needs):
        return False
    if style.factors:
        return float(layer.blobs[2].float64().reshape(-1)[0]) in style.factors
    return True


def _is_given(need: str, fields: BlockFields) -> bool:
    name, _, value = need.partition("=")
    return fields.get(name) == value if value else name in fields


def affine_of(layer: Layer) -> Union[Affine, Reason]:
    """The affine map per channel that a layer of ``TYPES`` computes, or why it is none."""
    style = style_of(layer)
    if isinstance(style, Reason):
        return style
    refusal = style.statistics(layer, block_fields(layer))
    return _affine(layer, style) if refusal is None else Reason(refusal)


def _affine(layer: Layer, style: Style) -> Affine:
    blobs, eps = _parts(layer, style)
    with np.errstate(all="ignore"):
        result = formulas.affine(blobs, eps, style.eps_outside_root)
    if not (np.isfinite(result.scale).all() and np.isfinite(result.shift).all()):
        raise WeightsError(
            f"expected finite multipliers, found a variance of 0 with eps {eps:g}",
            layer=layer.name,
            blob=style.order.index("variance") if "variance" in style.order else 0,
        )
    return result


def _parts(layer: Layer, style: Style) -> Tuple[Dict[str, Vector], float]:
    """The blobs that the style's formula uses, by name, and eps."""
    fields = block_fields(layer)
    blobs: Dict[str, Vector] = {}
    for number, (name, blob) in enumerate(zip(style.order, layer.blobs)):
        values = blob.float64().reshape(-1)
        if not np.isfinite(values).all():
            bad = values[~np.isfinite(values)].flat[0]
            raise WeightsError(
                f"expected finite values, found {bad}", layer=layer.name, blob=number
            )
        if name != "unused":
            blobs[name] = values
    eps = float(np.float32(style.eps(layer, ForkFields(fields))))
    _check_variance(layer, style, blobs, eps)
    for name in style.adjust(fields):
        del blobs[name]
    if not blobs.keys() & set(formulas.VECTORS):
        blobs["scale"] = np.ones(count(layer.blobs[0].shape))
    return blobs, eps


def _check_variance(layer: Layer, style: Style, blobs: Dict[str, Vector], eps: float) -> None:
    """Refuse what has no root; one a little below 0, as E(x^2) - E(x)^2 rounds, has it with eps."""
    name = "inverse" if "inverse" in blobs else "variance"
    if name not in blobs:
        return
    factor = float(blobs["factor"][0]) if "factor" in blobs else 1.0
    has_eps = name == "variance" and not style.eps_outside_root
    least = -eps * abs(factor) if has_eps else 0.0
    values = blobs[name] * np.sign(factor)
    negative = blobs[name][(values < 0) & (values <= least)]
    if len(negative):
        expected = f"of the factor's sign, {factor:g}" if "factor" in blobs else "of at least 0"
        raise WeightsError(
            f"expected {'variances' if name == 'variance' else 'inverses'} {expected}, "
            f"found {negative[0]:g}",
            layer=layer.name,
            blob=style.order.index(name),
        )


def as_statistics(layer: Layer) -> Union[Terms, Reason]:
    """The layer as mean, variance, scale and bias, for the reference layers to run.

    The arithmetic is left to them, so that the proof does not rest on what ``affine_of`` computes.
    """
    style = style_of(layer)
    if isinstance(style, Reason):
        return style
    refusal = style.statistics(layer, block_fields(layer))
    if refusal is not None:
        return Reason(refusal)
    parts, eps = _parts(layer, style)
    with np.errstate(all="ignore"):
        blobs = formulas.divided(parts)
    size = len(next(iter(blobs.values())))
    variance = blobs.get("variance")
    if "inverse" in blobs:  # 1 / sqrt(v) is the inverse
        with np.errstate(divide="ignore"):
            variance, eps = blobs["inverse"] ** -2.0, 0.0
    elif variance is None:
        variance, eps = np.ones(size), 0.0
    elif style.eps_outside_root:  # sqrt(v) is sqrt(variance) + eps
        variance, eps = (np.sqrt(variance) + eps) ** 2, 0.0
    scale = blobs.get("scale", np.ones(size))
    param = type(layer.param)(name=layer.name, type=NORMALISED)
    param.bottom.extend(layer.param.bottom)
    param.top.extend(layer.param.top)
    param.batch_norm_param.eps = eps
    values = (blobs.get("mean", np.zeros(size)), variance, scale, blobs.get("bias", np.zeros(size)))
    return param, tuple(Dense(array, DOUBLE) for array in values)


def fits_a_style(layer: Layer, blobs: Sequence[Blob], expected_shapes: Sequence[BlobShape]) -> bool:
    """Whether ``blobs``, not as many as BVLC's layer has (``expected_shapes``), fit a style."""
    shapes = [blob.shape for blob in blobs]
    if layer.type not in TYPES or len(shapes) == len(expected_shapes):
        return False
    channels = (expected_shapes[0] or (None,))[0]
    sizes = {*map(count, shapes)}
    fits = any(_fits(style, shapes) for style in OF_TYPE[layer.type])
    return fits and (channels is None or channels in sizes)


def foreign_field(layer: Layer) -> Optional[str]:
    """A field of the layer that no style of its type has; None if there is none."""
    fields_of = [style.fields for style in OF_TYPE.get(layer.type, ())]
    unknown = block_fields(layer).keys() - frozenset().union(*fields_of) if fields_of else ()
    return f"{blocks(layer.type)[0]}.{min(unknown)}" if unknown else None


def has_scale(layer: Layer) -> bool:
    """Whether the forks that have this kind of layer also have a Scale layer."""
    style = style_of(layer) if layer.type in TYPES else None
    return not isinstance(style, Style) or style.has_scale


def own_blocks(layer: Layer) -> Tuple[str, ...]:
    """The blocks of a layer's text that go when it gets another type."""
    return blocks(layer.type) if layer.type in TYPES else ()


def choose_style(layers: Sequence[Layer], name: Optional[str]) -> int:
    """Set the style of all layers that the style ``name`` fits; returns how many."""
    number = 0
    for layer in layers:
        shapes = [blob.shape for blob in layer.blobs]
        rows = OF_TYPE.get(layer.type, ())
        if any(style.name == name and _fits(style, shapes) for style in rows):
            layer.style = name or ""
            number += 1
    return number


def notes(layers: Sequence[Layer]) -> List[Note]:
    """Notes for the user: the styles in the net other than BVLC's, and factors of 0."""
    by_style: Dict[Style, List[Layer]] = {}
    by_batch: List[Layer] = []
    out = []
    for layer in layers:
        if layer.type not in TYPES:
            continue
        try:
            style = style_of(layer)
        except WeightsError:
            continue  # raised again where the values are used
        if isinstance(style, Style):
            by_style.setdefault(style, []).append(layer)
            if style.statistics(layer, block_fields(layer)) == FLAG_FALSE:
                by_batch.append(layer)
            text = _zero(layer, style)
            if text:
                out.append(Note("zero-factor", layer.name, text))
    for style, members in by_style.items():
        if style.name != "bvlc":
            number = counted(len(members), f"{members[0].type} layer")
            text = f"{number} read as {style.name}: y = {style.formula}"
            out.append(Note("bn-style", "" if len(members) > 1 else members[0].name, text))
    if by_batch:
        out.append(_batch_statistics(by_batch))
    return out


def _batch_statistics(layers: List[Layer]) -> Note:
    number = counted(len(layers), "layer")
    say = "says" if len(layers) == 1 else "say"
    text = Text(
        f"{number} {say} use_global_stats: false: Caffe normalises by each batch's statistics "
        "there; OpenCV and MNN ignore the flag. If it was left in by mistake, ",
        OptionName("use_stored_statistics"),
        " has the stored ones used",
    )
    return Note("batch-statistics", "" if len(layers) > 1 else layers[0].name, text)


def _zero(layer: Layer, style: Style) -> str:
    if "factor" in style.order:
        if layer.blobs[style.order.index("factor")].float64().any():
            return ""
        text = "its scale factor is 0: Caffe takes its mean and variance as 0, and so do we"
        if style.name == "bvlc" and layer.blobs[1].float64().any():
            meant = "; if NVIDIA Caffe 0.16 wrote the file, they are meant: "
            return Text(text, meant, OptionName("bn_style"), " nvidia")
        return text
    if style.factors and not layer.blobs[2].float64().any():
        return "its third blob is 0, as NVIDIA Caffe 0.16 writes it: mean and variance are meant"
    return ""
