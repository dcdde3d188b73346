"""Looks at the first bytes of the two input files: they may be files of another kind."""

from __future__ import annotations

from typing import Optional

from caffe_merge.errors import TextError, WeightsError
from caffe_merge.files.inputs import opened
from caffe_merge.formats.text.syntax import MAX_BYTES
from caffe_merge.formats.weights import solverstate
from caffe_merge.formats.weights.formats import FORMATS

_SNIFFED = solverstate.HEAD
_ARCHIVES = (  # zip, gzip, 7z, bzip2, xz, zstd, rar
    b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"Rar!"
)  # fmt: skip
_CONTROL = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r")


def read_text(path: str) -> bytes:
    """The bytes of a prototxt; an error where the file is missing or plainly something else."""
    with opened(path) as handle:
        head = handle.read(_SNIFFED)
        _reject_text(path, head)
        data = head + handle.read(MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise TextError(path, 1, 1, f"expected a prototxt of at most {MAX_BYTES >> 20} MB")
    return data


def check_inputs(prototxt: str, caffemodel: str) -> None:
    """Raise where an input is missing or plainly something else, by its first bytes."""
    with opened(prototxt) as handle:
        _reject_text(prototxt, handle.read(_SNIFFED))
    reject_weights(caffemodel)


def _reject_text(path: str, head: bytes) -> None:
    kind = _foreign(head) or solverstate.described(head)
    if kind is None and (b"\0" in head or _control_share(head) > 0.05):
        kind = "binary data; is this the caffemodel?"
    if kind is not None:
        raise TextError(path, 1, 1, f"expected a prototxt, found {kind}")


def reject_weights(path: str) -> None:
    """Raise where the file at ``path`` is plainly not a caffemodel."""
    with opened(path) as handle:
        head = handle.read(_SNIFFED)
    if any(row.is_it(memoryview(head)) for row in FORMATS[:-1]):
        return  # a format with a signature, though it may be an archive
    kind = _foreign(head)
    if not head:
        kind = "an empty file"
    elif kind is None and _control_share(head) == 0 and b"\n" in head:
        kind = "text; is this the prototxt?"
    if kind is not None:
        raise WeightsError(f"expected a caffemodel, found {kind}", path=path)


def _foreign(head: bytes) -> Optional[str]:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: fetch the file itself with `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page: the download saved a page, not the file"
    if head.startswith(_ARCHIVES):
        return "an archive: unpack it first"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_utf16(head):
        return "UTF-16 text: save it as UTF-8"
    return None


def _is_utf16(head: bytes) -> bool:
    """Whether it is UTF-16 without its mark: each second byte is zero, the others are text."""
    whole = head[: len(head) // 2 * 2]
    for text, zeros in ((whole[::2], whole[1::2]), (whole[1::2], whole[::2])):
        if len(text) > 4 and not any(zeros) and 0 not in text and _control_share(text) == 0:
            return True
    return False


def _control_share(head: bytes) -> float:
    control = len(head) - len(head.translate(None, _CONTROL))
    return control / max(len(head), 1)
