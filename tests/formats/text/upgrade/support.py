"""What tests of old formats need: our reading of a text, and what real Caffe makes of it."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any, List

from google.protobuf import text_format
from google.protobuf.message import Message

from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.text.syntax import Document
from caffe_merge.formats.text.upgrade import upgrade
from tests.nets import parse

# Caffe logs the net as upgraded and filtered before it makes a layer, so a data layer without its
# data will do; glog cuts a message off at 30,000 characters.
_LOGGED = re.compile(
    r"Initializing net from parameters: ?\n(.*?)\n(?:[IWEF]\d{8} |\*\*\* )", re.DOTALL
)


def upgraded(text: str) -> str:
    """``text`` in the current format."""
    return upgrade(Document(text.encode(), "net.prototxt"))[0].text


def messages(text: str) -> List[str]:
    """What is told of rewriting ``text``."""
    _, notes = upgrade(Document(text.encode(), "net.prototxt"))
    assert {note.kind for note in notes} <= {"upgraded"}
    return [note.text for note in notes]


def ours(text: str) -> List[Any]:
    """The layers that the net of ``text`` has for us."""
    return [plain(layer.param) for layer in parse(text).layers]


def caffes(python: str, text: str, folder: Path) -> List[Any]:
    """The layers that it has for real Caffe, none if Caffe refuses to upgrade it."""
    path = folder / "old.prototxt"
    path.write_bytes(text.encode())
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); import caffe; "
    code += "caffe.Net(sys.argv[1], caffe.TEST)"
    environment = {**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"}
    ran = subprocess.run(
        [python, "-c", code, str(path)], stderr=subprocess.PIPE, env=environment, cwd=folder
    )
    match = _LOGGED.search(ran.stderr.decode() + "\n*** ")
    if match is None:
        return []
    assert len(match.group(1)) < 29_000
    return [plain(layer) for layer in text_format.Parse(match.group(1), NetParameter()).layer]


def plain(layer: Any) -> Any:
    """A layer without what Caffe adds as it goes: its phase, and messages with nothing in them."""
    out = type(layer)()
    out.CopyFrom(layer)
    out.ClearField("phase")
    for field, value in layer.ListFields():
        if isinstance(value, Message) and not value.ListFields():
            out.ClearField(field.name)
    return out
