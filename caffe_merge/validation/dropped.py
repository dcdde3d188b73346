"""Channels that the new net has no more, as nothing depends on what the inputs make of them.

A merge drops a channel that no input changes, and what reads it has its value in the bias instead;
or one that is read with weights of 0. Where both nets hold the same but for such channels, what
comes next can be compared by impulses in the others, as it is where they hold the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Sequence

import numpy as np

from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.catalogue import CONVOLUTION, DEPTHWISE, PRODUCT, of_family
from caffe_merge.validation.compare import distance_by_channel, nearly
from caffe_merge.validation.impulses import ImpulseResponse, impulse_response
from caffe_merge.validation.response import Response

_PRODUCTS = frozenset(of_family(PRODUCT))
_CONVOLUTIONS = frozenset(of_family(CONVOLUTION, DEPTHWISE))
_MOST = 1 << 27  # values that are compared to find where channels went


def kept_channels(before: np.ndarray, after: np.ndarray, limit: float) -> Optional[np.ndarray]:
    """Which channels of ``before``, in order, are those of ``after``; None if that is not sure.

    Channels are axis 1, of which ``after`` has fewer. They are taken for the same as is_thinned
    does it, with its ``limit``.
    """
    if before.ndim != after.ndim or before.ndim < 2 or not after.size:
        return None
    gone = before.shape[1] - after.shape[1]
    others = [(shape[0], *shape[2:]) for shape in (before.shape, after.shape)]
    if others[0] != others[1] or gone <= 0 or (gone + 1) * after.size > _MOST:
        return None
    allowed = nearly(before, limit)
    if not 0 < allowed.max() < np.inf:
        return None
    is_kept = np.ones(before.shape[1], bool)
    at = 0
    for _ in range(gone):
        rest = after[:, np.count_nonzero(is_kept[:at]) :]
        same = slice(at, at + rest.shape[1])
        wrong = ~(distance_by_channel(rest, before[:, same]) <= allowed[same])
        at += int(np.argmax(wrong)) if wrong.any() else rest.shape[1]
        if at:  # it may as well be the one in front that went, if these are alike
            apart = distance_by_channel(before[:, at : at + 1], before[:, at - 1 : at])
            if apart[0] <= 2 * allowed[at]:
                return None
        is_kept[at] = False
        at += 1
    channels = np.flatnonzero(is_kept)
    is_same = distance_by_channel(after, before[:, channels]) <= allowed[channels]
    return channels if is_same.all() else None


class Kept(NamedTuple):
    """Which ``channels`` of a blob the new net has too; ``constants`` (C) what the others hold.

    That is NaN for a channel that is not constant, and 0 for one that is kept.
    """

    channels: np.ndarray
    constants: np.ndarray


def constants(of: Response, channels: np.ndarray) -> Optional[Kept]:
    """What the channels that are not among ``channels`` hold; None where they have places."""
    if any(size != 1 for size in of.values.shape[2:]):
        return None
    rows = of.rows().reshape(-1, of.values.shape[1])
    held = np.where((rows == rows[-1:]).all(axis=0), rows[len(of.values) - 1], np.nan)
    held[channels] = 0
    return Kept(channels, held)


def kept_response(
    param: Any, blobs: Sequence[np.ndarray], rank: int, kept: Kept
) -> Optional[ImpulseResponse]:
    """What a layer makes of impulses in the channels that are kept; None where it is not told.

    ``rank`` is as in impulse_response. The other channels of its bottom are constant; in front of a
    border too, as everywhere in responses.
    """
    count, weights = len(kept.constants), blobs[0]
    if axis_of(param, rank) != 1:
        return None
    if param.type in _CONVOLUTIONS and param.convolution_param.group > 1:
        if not param.convolution_param.group == count == len(weights):
            return None
        narrow = np.zeros(weights.shape)
        narrow[kept.channels] = weights[kept.channels]
        shift = np.nan_to_num(kept.constants) * weights.reshape(count, -1).sum(axis=1)
        response = impulse_response(param, [narrow, _bias(blobs, shift)], rank)
        if response is None:
            return None
        return response._replace(taps=(response.taps[0], len(kept.channels)))
    if param.type in _PRODUCTS and not param.inner_product_param.transpose:
        outputs = int(param.inner_product_param.num_output)
        if weights.size % (outputs * count):
            return None
        weights = weights.reshape(outputs, count, -1)
    elif param.type not in _CONVOLUTIONS or weights.shape[1] != count:
        return None
    is_gone = np.ones(count, bool)
    is_gone[kept.channels] = False
    held = kept.constants[is_gone]
    sums = weights[:, is_gone].reshape(len(weights), len(held), -1)
    if sums[:, np.isnan(held)].any():
        return None
    shift = sums.sum(axis=2) @ np.nan_to_num(held)
    size = weights[0, 0].size
    some = (kept.channels[:, None] * size + np.arange(size)).reshape(-1)
    return impulse_response(param, [blobs[0], _bias(blobs, shift)], rank, some)


def _bias(blobs: Sequence[np.ndarray], more: np.ndarray) -> np.ndarray:
    bias: np.ndarray = blobs[1].reshape(-1) + more if len(blobs) > 1 else more
    return bias
