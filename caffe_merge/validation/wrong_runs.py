"""What moves where the new net runs with wrong weights, for engines that run whole nets."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from caffe_merge.files.temporary import temporary_folder
from caffe_merge.layers.catalogue import CONVOLUTION, DEPTHWISE, PRODUCT, of_family, that
from caffe_merge.validation.compare import distance_by_channel, largest_by_channel
from caffe_merge.validation.findings import Findings
from caffe_merge.validation.limits import CLEARLY
from caffe_merge.validation.loaded import Net
from caffe_merge.validation.pairing import Point
from caffe_merge.validation.run import Plan, Version
from caffe_merge.validation.seeded import Seeded
from caffe_merge.validation.seen import farthest, wrong_by
from caffe_merge.validation.sessions import Session

_CHANNELWISE = that("channelwise")
# What is multiplied with a channel's weights, its bias included, is multiplied with the channel.
_ROWS = frozenset((*of_family(CONVOLUTION, DEPTHWISE, PRODUCT), "Scale"))


class Fed(NamedTuple):
    """A net that a session has opened, and the .npy files of its inputs."""

    net: Net
    session: Session
    files: Mapping[str, str]

    def forward(self, names: Sequence[str]) -> Dict[str, np.ndarray]:
        """The blobs ``names``; without those that the engine does not give out."""
        return _arrays(self.session.forward(self.files, only=names))

    def forward_wrong(
        self, names: Sequence[str], layer: Any, blobs: Sequence[np.ndarray]
    ) -> Dict[str, np.ndarray]:
        """The blobs ``names`` of a run in which ``layer`` has other ``blobs``."""
        with temporary_folder() as folder:
            paths = [os.path.join(folder, f"{number}.npy") for number in range(len(blobs))]
            for path, blob in zip(paths, blobs):
                np.save(path, np.asarray(blob, np.float32))
            frames = self.session.forward(self.files, only=names, weights={layer.name: paths})
            return _arrays(frames)


def _arrays(frames: Any) -> Dict[str, np.ndarray]:
    return {f.header["name"]: f.array for f in frames if f.array is not None}


def see_rewrites(findings: Findings, new: Fed, values: Mapping[str, np.ndarray]) -> None:
    """Make each rewritten layer's weights wrong, and see which blobs behind it move.

    ``values`` are the blobs that agree and may show it. Each weight is wrong by a part of itself,
    of either sign.
    """
    wrong = wrong_by(findings.least)
    for index in findings.open:
        layer = new.net.layers[index]
        names = first_agreeing(new.net.layers, new.net.program.plan, index, values)
        if not names:
            continue
        if not layer.blobs:  # what it does shows in its tops alone
            findings.see({index: (repr(names[0]), 1.0)})
            continue
        draws = Seeded("wrong weights")
        originals = [blob.float64() for blob in layer.blobs]
        blobs = [blob * (1 + draws.signs(blob.shape, wrong)) for blob in originals]
        for name, array in new.forward_wrong(names, layer, blobs).items():
            findings.see({index: (repr(name), _moved(values[name], array))})


def is_undone(findings: Findings, old: Fed, new: Fed, point: Point) -> bool:
    """Whether the nets would differ behind ``point`` if they held the same there.

    The weights that make its channels are made wrong by as much as each channel differs: where that
    moves what agrees, layers in between undo what is different. False where it cannot be told.
    """
    agreeing = {p.after[0]: p for p in findings.same() if findings.results[p].remark is None}
    names = first_agreeing(new.net.layers, new.net.program.plan, point.after[1], agreeing)
    index = _writer_of_channels(new, point.after)
    if index is None or not names:
        return False
    was = old.forward([point.before[0]]).get(point.before[0])
    right = new.forward([point.after[0], *names])
    now = right.pop(point.after[0], None)
    if was is None or now is None or was.shape != now.shape:
        return False
    differences, sizes = distance_by_channel(was, now), largest_by_channel(now)
    if not np.isfinite([differences, sizes]).all() or differences[sizes == 0].any():
        return False
    factors = 1 + differences / np.where(sizes > 0, sizes, 1)
    layer = new.net.layers[index]
    blobs = _rows_times([blob.float64() for blob in layer.blobs], factors)
    if blobs is None:
        return False
    return any(
        _moved(right[name], array) > CLEARLY * findings.limit(agreeing[name])
        for name, array in new.forward_wrong(list(right), layer, blobs).items()
    )


def first_agreeing(
    layers: Sequence[Any], order: Plan, index: int, values: Mapping[str, Any]
) -> List[str]:
    """The first blobs behind a layer that agree: an error of the layer shows there or nowhere."""
    reached = {(top, index) for top in layers[index].param.top}
    agreeing: Dict[str, None] = {}
    for reader in range(index, len(layers)):
        if reader > index and not reached.isdisjoint(order.reads[reader]):
            reached.update((top, reader) for top in layers[reader].param.top)
        for name in layers[reader].param.top:
            version = name, reader
            if version in reached and name in values and order.final[name] == version:
                agreeing[name] = None
                reached.discard(version)
    return list(agreeing)


def _writer_of_channels(new: Fed, version: Version) -> Optional[int]:
    """The layer whose weights make the channels of ``version`` and of nothing else.

    Layers may stand between that nobody else reads. None if there is no such layer.
    """
    while version[1] >= 0:
        index = version[1]
        layer, reads = new.net.layers[index], new.net.program.plan.reads[index]
        if len(reads) != 1 or any(param.name for param in layer.param.param):
            return None
        if layer.type in _ROWS and layer.blobs:
            transposed = layer.type == "InnerProduct" and layer.param.inner_product_param.transpose
            return None if transposed else index
        version = reads[0]
        readers = sum(bottoms.count(version) for bottoms in new.net.program.plan.reads)
        if layer.type not in _CHANNELWISE or readers > 1:
            return None
    return None


def _rows_times(blobs: Sequence[np.ndarray], factors: np.ndarray) -> Optional[List[np.ndarray]]:
    """Blobs of a layer, those of each output channel times its factor; None if they are not so."""
    count = len(factors)
    if any(blob.shape[:1] != (count,) and blob.size != count for blob in blobs):
        return None
    return [(blob.reshape(count, -1) * factors[:, None]).reshape(blob.shape) for blob in blobs]


def _moved(right: np.ndarray, wrong: np.ndarray) -> float:
    """The largest difference, relative to the largest of the values that are ``right``.

    0 where these are all 0: a dead blob shows nothing.
    """
    largest = float(np.abs(right).max(initial=0.0))
    return farthest(wrong.astype(np.float64), right) / largest if largest else 0.0
