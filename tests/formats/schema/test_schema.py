"""proto/caffe.proto states BVLC's wire facts: held against the tables where they are at hand."""

import csv
import os
from pathlib import Path
from typing import Any, Dict

import pytest

from caffe_merge.formats.schema.messages import NetParameter, changed_fields, is_repeated

TABLES = os.environ.get("CAFFE_MERGE_SCHEMA")


def test_the_default_pool_stays_empty() -> None:
    from google.protobuf import descriptor_pool

    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter")


def test_changed_fields_sees_presence_and_values() -> None:
    old, new = NetParameter(name="a"), NetParameter(name="a", force_backward=False)
    assert [field.name for field in changed_fields(old, new)] == ["force_backward"]
    new.layer.add(name="x")
    assert [field.name for field in changed_fields(old, new)] == ["force_backward", "layer"]
    assert changed_fields(new, new) == []


@pytest.mark.skipif(not TABLES, reason="CAFFE_MERGE_SCHEMA names no folder of tables")
def test_fields_numbers_labels_and_defaults() -> None:
    file: Any = NetParameter.DESCRIPTOR.file
    messages: Dict[str, Any] = file.message_types_by_name
    seen = 0
    with open(Path(str(TABLES)) / "bvlc-schema.tsv", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            field = messages[row["message"]].fields_by_name[row["field"]]
            assert field.number == int(row["number"])
            assert is_repeated(field) == (row["label"] == "repeated")
            if row["default"] and row["type"] in ("float", "double", "int32", "uint32", "int64"):
                assert field.default_value == pytest.approx(float(row["default"]))
            elif row["default"] and row["type"] == "bool":
                assert field.default_value == (row["default"] == "true")
            elif row["default"] and row["type"] == "string":
                assert field.default_value == row["default"]
            elif row["default"] and row["type"] == "enum":
                number = field.enum_type.values_by_name[row["default"]].number
                assert field.default_value == number
            seen += 1
    assert seen == sum(len(message.fields) for message in messages.values()) == 423
