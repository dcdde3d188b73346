"""The table: every row can be read, asked and done; docs/targets.md is made from it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_merge.errors import UsageError
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.merging.target_forms import CURRENT_FORMAT, OUTPUT_APART, STORED_TYPES
from caffe_merge.net.text_forms import TEXT_FORMS
from caffe_merge.passes import PASSES
from caffe_merge.passes.forms import FORMS
from caffe_merge.passes.targets.facts import OF_LAYERS, OF_NETS
from caffe_merge.passes.targets.table import EFFECTS, NET, Row, find, table
from caffe_merge.validation.opencv_net import MEASURED

ROOT = Path(__file__).resolve().parents[3]
OF_THE_WRITER = (STORED_TYPES, CURRENT_FORMAT, OUTPUT_APART)
ROWS = [(target.name, row) for target in table().targets.values() for row in target.rows]
NAMES = (
    "opencv", "ncnn", "mnn", "rknn", "tpu-mlir", "ascend", "mindspore", "nnie", "horizon",
    "sigmastar", "axera", "caffe2onnx", "caffe-onnx", "caffe-2015",
)  # fmt: skip


def test_the_targets() -> None:
    assert tuple(table().targets) == NAMES
    with pytest.raises(UsageError, match="no target is called 'tensorrt'; there are opencv, ncnn"):
        find("tensorrt")
    assert find("MNN") is find("mnn")


def is_fact(fact: str, kind: str) -> bool:
    """Whether a row about layers of the type ``kind`` may ask for ``fact``."""
    if kind == NET:
        return fact in OF_NETS
    if fact in OF_LAYERS:
        return True
    row = CATALOGUE.get(kind)
    field = row and LayerParameter.DESCRIPTOR.fields_by_name.get(row.block)
    if not field:
        return row is not None and row.fork  # a block of a fork, read as text
    return fact in field.message_type.fields_by_name


@pytest.mark.parametrize(("target", "row"), ROWS, ids=lambda value: str(value)[:40])
def test_a_row(target: str, row: Row) -> None:
    forms = {kind.name for kind in (*PASSES, *FORMS)} | {*TEXT_FORMS, *OF_THE_WRITER}
    assert row.effect in EFFECTS
    assert row.why
    assert bool(row.form) != bool(row.advice), "what is to be done: a form, or in words"
    assert not row.form or (row.form in forms and row.form in table().forms)
    assert row.source.text
    assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", row.source.date)
    for kind in row.types:
        for clause in row.where:
            assert is_fact(clause.fact, kind), (kind, clause)


def test_every_form_is_asked_for() -> None:
    asked = {row.form for _, row in ROWS if row.form}
    assert asked == {*table().forms}
    assert {form.name for form in FORMS} <= asked


def test_opencv_has_the_types_that_its_engine_runs() -> None:
    assert {*MEASURED, "Split", "Input"} <= find("opencv").types


def test_the_page_is_made_from_the_table() -> None:
    tool = ROOT / "tools" / "make_targets.py"
    if not tool.exists():
        pytest.skip("the tests run on an installed package, without tools/ and docs/")
    command = [sys.executable, str(tool), "--check"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()
