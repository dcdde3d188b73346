"""The catalogue has a row for every layer type that the package names, and every table agrees."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest

import caffe_merge
from caffe_merge import reference
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.formats.text.upgrade import v1
from caffe_merge.layers import (
    fork_fields,
    identity,
    linear,
    moving,
    norms,
    per_channel,
    signs,
    standard,
)
from caffe_merge.layers.catalogue import (
    AFFINE,
    CATALOGUE,
    DROPOUT,
    NORM,
    LayerType,
    of_family,
    that,
)
from caffe_merge.layers.shapes import detection, recurrent, resampling
from caffe_merge.layers.shapes.forks import NORMALISED
from caffe_merge.layers.shapes.learned import LEARNERS
from caffe_merge.layers.shapes.outputs import RULES
from caffe_merge.layers.shapes.rules import rule_of
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.merging.proof import plans
from caffe_merge.merging.report import TRACKED
from caffe_merge.net import data_layers, deployment
from caffe_merge.passes import affine_as, fold_permute
from caffe_merge.passes.rewriting import affine_propagation

PACKAGE = Path(caffe_merge.__file__).parent

# Tables beside the functions that they name: their types.
TABLES: Dict[str, Set[str]] = {
    "shapes": {*RULES, *detection.RULES, *recurrent.RULES, *resampling.RULES} - {NORMALISED},
    "blobs": {*LEARNERS},
    "forwards": {*reference.SUPPORTED} - {NORMALISED},
    "norms": {*norms.TYPES},
    "identities": {*identity._RULES},
    "maps per channel": {*per_channel._RULES},
    "never negative": {*signs._RULES},
    "maps on their way": {*moving.RULES, *affine_propagation._CONDITIONS},
    "in other terms": {*standard._RULES},
    "fork fields": {*fork_fields.READ, *(t for row in fork_fields.HARMLESS for t in row.types)},
    "old formats": {*v1.TYPES.values(), *v1.FORK_TYPES.values()} - {""},
    "heads": {*deployment._HEADS, *deployment._HEADS.values()},
    "into products": {*fold_permute._RULES},
    "fates": {*TRACKED},
}


def compared(path: Path) -> Iterator[str]:
    """The strings that the module at ``path`` compares the ``type`` of a layer with."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Attribute) and side.attr == "type" for side in sides):
                for side in sides:
                    for inner in ast.walk(side):
                        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                            yield inner.value


@pytest.mark.parametrize("name", TABLES)
def test_every_type_of_a_table_has_a_row(name: str) -> None:
    assert sorted(TABLES[name] - {*CATALOGUE}) == []


def test_every_type_that_code_compares_has_a_row() -> None:
    names: List[str] = []
    for path in PACKAGE.rglob("*.py"):
        if "upgrade" not in path.parts:  # old formats have names of their own
            names += [name for name in compared(path) if name[:1].isupper()]
    assert len(names) > 50
    assert sorted({*names} - {*CATALOGUE}) == []


def lists_of_types() -> Iterator[str]:
    """The modules with a list of two types, or a table from types to blocks of the text."""
    for path in PACKAGE.rglob("*.py"):
        if path.name == "catalogue.py" or "upgrade" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values, few = [], 1
            if isinstance(node, (ast.Tuple, ast.Set, ast.List)):
                values = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            elif isinstance(node, ast.Dict) and any(_is_block(value) for value in node.values):
                values, few = [k.value for k in node.keys if isinstance(k, ast.Constant)], 0
            if len(values) > few and all(value in CATALOGUE for value in values):
                yield path.relative_to(PACKAGE).as_posix()


def _is_block(node: ast.AST) -> bool:
    texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    return all(isinstance(text, str) and text.endswith("_param") for text in texts) and bool(texts)


def test_no_list_of_types_stands_anywhere_else() -> None:
    """Facts about types belong into rows."""
    assert {*lists_of_types()} == {*ALLOWED}


# What these lists say is no fact about types but what the place where they stand is about.
ALLOWED: Dict[str, str] = {
    "layers/fork_fields.py": "whose text has the field: the table of the fields",
    "layers/norms/styles.py": "the types that each style is for: the table of the styles",
    "layers/shapes/cost.py": "what multiplies each value once: what cost.py is about",
    "net/data_layers.py": "which layers' blobs tell a shape, and what is no data: each by its code",
    "passes/affine_as.py": "the two forms that its option names",
}


def test_the_engine_and_the_shapes_know_the_same() -> None:
    """What can be run has a shape; a new layer is its row, its shape and its forward."""
    assert sorted(kind for kind in reference.SUPPORTED if rule_of(kind) is None) == []


def test_forwards_are_in_the_modules_that_the_rows_name() -> None:
    folder = PACKAGE / "reference"
    names = [path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "layer")]
    tables = {name: import_module(f"caffe_merge.reference.{name}").FUNCTIONS for name in names}
    original = {(kind, name) for name, table in tables.items() for kind in table}
    rows = {(kind, row.forward) for kind, row in CATALOGUE.items() if row.forward}
    assert original - rows == {(NORMALISED, "forks")}
    assert rows - original == set()


@pytest.mark.parametrize("module", [detection, recurrent, resampling])
def test_rules_that_are_imported_later_are_found(module: Any) -> None:
    for kind, rule in module.RULES.items():
        assert rule_of(kind) is rule
    assert {kind for kind, row in CATALOGUE.items()
            if row.forward == module.__name__.rpartition(".")[2]} == {*module.RULES}  # fmt: skip


def test_norms_are_the_types_of_the_styles() -> None:
    assert {*of_family(NORM)} == norms.TYPES


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_block_is_one_of_the_schema(name: str) -> None:
    row = CATALOGUE[name]
    if row.block and not row.fork:
        assert row.block in LayerParameter.DESCRIPTOR.fields_by_name


@pytest.mark.parametrize("name", sorted(filter(rule_of, that("same_shape"))))
def test_same_shape_is_what_the_shapes_say(name: str) -> None:
    param = LayerParameter(name="l", type=name, bottom=["x"], top=["y"])
    rule = rule_of(name)
    assert rule is not None
    assert rule.function(LayerSpec(param), [(2, 4, 5, 6)]) == [(2, 4, 5, 6)]


def test_maps_per_channel_are_those_with_a_rule() -> None:
    """Python is one where it is ENet's dropout; SpatialDropout is an identity and no map."""
    affine = {*of_family(NORM, AFFINE, DROPOUT)} - {"SpatialDropout"}
    assert {*per_channel._RULES} == affine | {"Python"}


def test_maps_per_channel_keep_shape_and_channels() -> None:
    assert {*of_family(NORM, AFFINE, DROPOUT)} <= that("same_shape") & that("channelwise")


@pytest.mark.parametrize("name", ["Swish", "Clip", "Threshold", "ReLU6"])
def test_lists_have_the_pointwise_types_that_they_once_lacked(name: str) -> None:
    assert name in plans.CHANNELWISE
    assert name in data_layers._SAME_CHANNELS


def test_a_new_layer_of_the_engine_is_its_row_its_shape_and_its_forward() -> None:
    """In a process of its own: the lists are made when their modules are imported."""
    done = subprocess.run([sys.executable, "-c", NEW_LAYER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


NEW_LAYER = """
import numpy as np
from caffe_merge.layers import catalogue
catalogue.CATALOGUE["Cube"] = catalogue.LayerType(
    catalogue.POINTWISE, forward="activation", same_shape=True, channelwise=True
)
from caffe_merge.layers.shapes.outputs import RULES
RULES["Cube"] = RULES["AbsVal"]
from caffe_merge import reference
from caffe_merge.reference import activation
activation.FUNCTIONS["Cube"] = lambda layer, blobs, bottoms, tops: [bottoms[0] ** 3]

from caffe_merge.net import data_layers
from caffe_merge.merging.proof import plans
from caffe_merge.passes.rewriting import affine_propagation
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers.spec import LayerSpec
layer = LayerParameter(name="cube", type="Cube", bottom=["x"], top=["y"])
(top,) = reference.forward(LayerSpec(layer), [], [np.full((2, 3), 2.0)])
assert (top == 8).all()
assert "Cube" in plans.CHANNELWISE
assert "Cube" in data_layers._SAME_CHANNELS
"""


def test_linear_types() -> None:
    assert {*linear.CONVOLUTIONS} < {*linear.LINEAR_TYPES}
    assert {*linear.LINEAR_TYPES} - {*linear.CONVOLUTIONS} == {"Deconvolution", "InnerProduct"}


def test_facts_are_fields() -> None:
    assert all(that(fact) for fact in LayerType._fields if fact != "family")
    with pytest.raises(AttributeError):
        that("fast")


def test_blocks() -> None:
    assert CATALOGUE["CuDNNBatchNorm"].blocks == ("cudnn_batch_norm_param", "batch_norm_param")
    assert CATALOGUE["AbsVal"].blocks == ()
    assert all(CATALOGUE[kind].blocks == norms.styles.blocks(kind) for kind in norms.TYPES)
    assert affine_as._BLOCKS == [
        "batch_norm_param",
        "bias_param",
        "convolution_param",
        "scale_param",
    ]
