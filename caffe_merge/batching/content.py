"""What a file holds, whatever its name: a net and its outline, a solver's settings, labels."""

import hashlib
import re
from typing import Dict, NamedTuple, Union

from caffe_merge.errors import CaffeMergeError, Text
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.merging import request
from caffe_merge.merging.request import Flags
from caffe_merge.net import outline
from caffe_merge.net.inputs import read_text, reject_weights
from caffe_merge.net.loading import read_document
from caffe_merge.net.outline import Key, Outline

SOLVER_FIELDS = {"net", "train_net", "test_net", "net_param", "base_lr", "lr_policy", "max_iter"}
_COMMENT = re.compile(rb'("(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\')|[ \t]*#[^\n]*')
_NET_NAME = re.compile(rb'\A(?:\xef\xbb\xbf)?\s*name\s*:\s*"[^"\\\n]*"')


class NotANet(NamedTuple):
    """A file that is no net or weights, though its name says so, and what it is instead."""

    why: str


def _plain(data: bytes) -> bytes:
    """A text without its comments, empty lines and the net's name."""
    lines = (_COMMENT.sub(rb"\1", line) if b"#" in line else line for line in data.split(b"\n"))
    return _NET_NAME.sub(b"", b"\n".join(line for line in lines if not line.isspace()))


class Contents:
    """What files hold, read as ``flags`` say; texts that differ in comments alone are read once."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._outlines: Dict[bytes, Outline] = {}

    def text(self, path: str) -> Union[Outline, NotANet]:
        """The outline of the net whose text is at ``path``, or what else is there."""
        try:
            data = read_text(path)
            same = hashlib.sha256(_plain(data)).digest()
            if same not in self._outlines:
                content = self._outline(path)
                if isinstance(content, NotANet):
                    return content
                self._outlines[same] = content
            return self._outlines[same]
        except CaffeMergeError as error:
            return NotANet(Text("cannot be read: ", error.message))

    def _outline(self, path: str) -> Union[Outline, NotANet]:
        document = read_document(path, self._flags["proto"]).document
        fields = {field.name for field in document.fields}
        if "layer" not in fields:
            if fields & SOLVER_FIELDS:
                return NotANet("a solver's settings")
            is_labels = fields and fields <= {"item", "name"}
            return NotANet("a list of labels" if is_labels else "not the text of a net")
        state, shapes = request.state(self._flags), request.shapes(self._flags)
        return outline.of_document(document, state, shapes)

    def weights(self, path: str) -> Union[Key, NotANet]:
        """The names and shapes in the weights file at ``path``, or why it is none."""
        try:
            reject_weights(path)
            return outline.of_weights(open_index(path))
        except CaffeMergeError as error:
            return NotANet(error.message)
