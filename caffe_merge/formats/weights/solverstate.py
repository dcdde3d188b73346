"""Tells a ``.solverstate`` by its first bytes: what a training left beside the weights.

``SolverState`` begins with the iteration, a varint in the field where a net has its name; the path
of the caffemodel follows, then the momentum of each blob, which would pass for layers.
"""

from __future__ import annotations

from typing import Optional

from caffe_merge.errors import WeightsError
from caffe_merge.formats.weights.source import Buffer
from caffe_merge.formats.weights.wire import BYTES, VARINT, read_varint, records
from caffe_merge.wording import quoted

_ITER, _LEARNED_NET, _HISTORY = 1, 2, 3
HEAD = 4096  # bytes that are enough: a path is not longer


def described(head: Buffer) -> Optional[str]:
    """What the file that begins with ``head`` is, if that is a solverstate; else None."""
    iteration = None
    try:
        for record in records(head, 0, len(head)):
            if (record.number, record.wire_type) == (_ITER, VARINT) and iteration is None:
                iteration = read_varint(head, record.start, record.end)[0]
            elif iteration is None or record.wire_type != BYTES:
                return None
            elif record.number == _LEARNED_NET:
                path = bytes(head[record.start : record.end]).decode("utf-8", "replace")
                return words(iteration, path)
            else:
                return words(iteration) if record.number == _HISTORY else None
    except WeightsError:  # cut within a record, or none at all
        if iteration is None or head[_behind(head)] >> 3 not in (_LEARNED_NET, _HISTORY):
            return None
    return None if iteration is None else words(iteration)


def _behind(head: Buffer) -> int:
    """The offset behind the first field, a varint; the last byte if there is none behind."""
    return min(read_varint(head, 1, len(head))[1], len(head) - 1)


def words(iteration: int, path: str = "") -> str:
    """What the user reads of it."""
    where = f": its weights are in {quoted(path)}" if path else ": the .caffemodel is beside it"
    return f"a .solverstate, left by a training at iteration {iteration:,}{where}"
