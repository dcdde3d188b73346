"""Real texts by their own forks' schemas, where the tables of these and the texts are at hand."""

import csv
import os
from pathlib import Path
from typing import Any, Dict, List

import pytest

import caffe_merge
from caffe_merge.errors import TextError
from tests.net.fork_proto import needs_protoc

TABLES = os.environ.get("CAFFE_MERGE_SCHEMA", "")
CORPUS = os.environ.get("CAFFE_MERGE_CORPUS", "")

pytestmark = [
    needs_protoc,
    pytest.mark.skipif(not TABLES or not CORPUS, reason="no folder of tables, or none of texts"),
]

TEXTS = {
    "mobilenet-ssd": "ssd",
    "faceboxes-imistyrain": "ssd",
    "intel-resnet50-fb": "intel",
    "nv-resnet50-fp16": "nvidia",
    "segnet-basic": "segnet",
    "enet-deploy": "enet",
    "pspnet50-ade20k": "pspnet",
    "googlenet-v1format": "ssd",
    "squeezenet-v1.1": "nvidia",
}


def rows(fork: str, kind: str) -> List[Dict[str, str]]:
    """A table: the fields of a fork's messages, or the values of its enums."""
    with open(Path(TABLES) / f"{fork}-{kind}.tsv", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def schema(folder: Path, fork: str) -> str:
    """The path of the fork's caffe.proto, written from its tables."""
    blocks: Dict[str, Any] = {}  # message -> what is in it, by name: text, or another message
    for row in rows(fork, "schema"):
        kind = row["type_name"] or row["type"]
        default = f'"{row["default"]}"' if row["type"] == "string" else row["default"]
        options = [f"default = {default}"] if row["default"] else []
        options += [f"packed = {row['packed']}"] if row["packed"] else []
        shown = f" [{', '.join(options)}]" if options else ""
        line = f"{row['label']} {kind} {row['field']} = {row['number']}{shown};"
        within(blocks, row["message"])[row["field"]] = line
    for row in rows(fork, "enums"):
        values = within(blocks, row["enum"])
        values[""] = "enum"
        values[row["value"]] = f"{row['value']} = {row['number']};"
    path = folder / f"{fork}.proto"
    path.write_text('syntax = "proto2";\npackage caffe;\n' + written(blocks))
    return str(path)


def within(blocks: Dict[str, Any], name: str) -> Dict[str, Any]:
    """The entry of ``Outer.Inner``, made if it is not there."""
    for part in name.split("."):
        blocks = blocks.setdefault(f"{part} ", {})  # a field may have the same name
    return blocks


def written(blocks: Dict[str, Any]) -> str:
    out = ""
    for name, inner in blocks.items():
        if isinstance(inner, dict):
            keyword = inner.pop("", "message")
            out += f"{keyword} {name}{{\n{written(inner)}}}\n"
        else:
            out += f"{inner}\n"
    return out


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_of_its_fork(tmp_path: Path, name: str) -> None:
    """Nothing in it is unknown or wrong, and nothing has to be written out."""
    text = Path(CORPUS) / f"{name}.prototxt"
    net = caffe_merge.load(str(text), None, proto=schema(tmp_path, TEXTS[name]))
    assert not net.rewritten
    assert not [note for note in net.notes if note.kind == "unknown-field"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("enet-deploy", r":\d+:\d+: expected a field of LayerParameter .*, found 'bn_param'"),
        ("unet-v1-oneline", r":43:80: found CROP for 'type', expected one of NONE, ABSVAL"),
    ],
)
def test_a_text_of_another_fork_is_not(tmp_path: Path, name: str, expected: str) -> None:
    text = str(Path(CORPUS) / f"{name}.prototxt")
    with pytest.raises(TextError, match=expected):
        caffe_merge.load(text, None, proto=schema(tmp_path, "ssd"))
