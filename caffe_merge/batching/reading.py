"""What all files of the sources hold; many of them are read by worker processes, side by side."""

from typing import Any, Dict, Hashable, Iterator, List, Mapping, NamedTuple, Sequence, Tuple, Union

from caffe_merge.batching.content import Contents, NotANet
from caffe_merge.batching.pool import DiedError, Pool
from caffe_merge.net.outline import Key, Outline

MANY = 400  # files that are worth starting workers for
_AT_ONCE = 100  # files in a task

TEXTS, WEIGHTS = 0, 1
Part = Tuple[int, Tuple[str, ...]]  # which of both, and paths


class Holdings(NamedTuple):
    """What each text and each weights file holds, by path."""

    texts: Dict[str, Union[Outline, NotANet]]
    weights: Dict[str, Union[Key, NotANet]]


def read(texts: Sequence[str], weights: Sequence[str], flags: Mapping[str, Any]) -> Holdings:
    """Read ``texts`` and ``weights`` as ``flags`` say, in this process."""
    contents = Contents(flags)
    return Holdings(
        {path: contents.text(path) for path in texts},
        {path: contents.weights(path) for path in weights},
    )


def read_by(
    pool: Pool, texts: Sequence[str], weights: Sequence[str], flags: Mapping[str, Any]
) -> Holdings:
    """The same, by the workers of ``pool``; a file that kills its worker is reported as such."""
    held: Tuple[Dict[str, Any], Dict[str, Any]] = {}, {}
    same: Dict[Hashable, Any] = {}  # contents that are equal are kept once
    parts = [*_parts(TEXTS, texts, _AT_ONCE), *_parts(WEIGHTS, weights, _AT_ONCE)]
    while parts:
        again: List[Part] = []
        for (kind, paths), got in pool.map(_read, [(part, (*part, flags)) for part in parts]):
            if not isinstance(got, DiedError):
                held[kind].update((path, same.setdefault(c, c)) for path, c in got.items())
            elif len(paths) == 1:
                held[kind][paths[0]] = NotANet(f"cannot be read: {got.reason}")
            else:  # one of them did that: each is read alone
                again += _parts(kind, paths, 1)
        parts = again
    return Holdings(*held)


def _parts(kind: int, paths: Sequence[str], size: int) -> Iterator[Part]:
    for at in range(0, len(paths), size):
        yield kind, tuple(paths[at : at + size])


def _read(kind: int, paths: Sequence[str], flags: Mapping[str, Any]) -> Dict[str, Any]:
    held = read(paths, (), flags) if kind == TEXTS else read((), paths, flags)
    return dict(held[kind])
