"""docs/forks.md and the tables of the code say the same."""

import re
from pathlib import Path
from typing import List, Tuple

import pytest

from caffe_merge import reference
from caffe_merge.command.flags import flag_of
from caffe_merge.errors import spelled
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers import shapes
from caffe_merge.layers.fork_fields import HARMLESS, READ, WINDOW, unknown_fields
from caffe_merge.layers.identity import identity
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.layers.norms import STYLES, TYPES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "forks.md").read_text(encoding="utf-8")


def table(title: str) -> List[Tuple[str, ...]]:
    """The rows of the table under the heading ``title``."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line[1:-1].split(" | ")) for line in lines[1:]]


def code(names: "Tuple[str, ...]") -> str:
    return ", ".join(f"`{name}`" for name in names)


def test_styles() -> None:
    assert table("BatchNorm and its like") == [
        (
            f"`{s.name}`",
            s.forks,
            code(s.types),
            ", ".join(s.order),
            s.formula,
            spelled(s.when, flag_of),
        )
        for s in STYLES
    ]


def test_harmless_fields() -> None:
    assert table("Fields") == [
        (f"`{h.name}`", code(h.types) or "any layer", h.forks, h.why) for h in HARMLESS
    ]


def test_convolutions() -> None:
    for kinds, _, _, what in table("Convolutions"):
        assert (kinds.strip("`") in LINEAR_TYPES) == what.startswith("folded"), kinds


def test_windows() -> None:
    message = {name for row in table("Windows") for name in re.findall("`(.+?)`", row[0])}
    assert message == {name.split(".")[1] for name in (*WINDOW, *READ["Pooling"])}
    read = [row[0] for row in table("Windows") if row[3].startswith("read")]
    for name in re.findall("`(.+?)`", "".join(read)):
        assert any(f".{name}" in field for names in READ.values() for field in names), name


def test_layers_that_pass_through() -> None:
    for kinds, _, computed in table("Layers that pass through"):
        for kind in re.findall("`(.+?)`", kinds):
            known_shapes = kind in reference.SUPPORTED or kind == "ReLU6"
            assert known_shapes == computed.startswith("yes"), kind
            assert kind not in TYPES


@pytest.mark.parametrize("row", HARMLESS, ids=[row.name for row in HARMLESS])
def test_a_harmless_field_and_one_like_it(row: "object") -> None:
    """Each is let through for its own types; the same name with more on it is not."""
    name, types = row.name, row.types or ("Scale", "Convolution")  # type: ignore[attr-defined]
    for kind in types:
        layer = Layer(LayerParameter(name="it", type=kind))
        layer.extra = {name: "X"}
        assert unknown_fields(layer) is None
        layer.extra = {f"scale_param.{name.split('.')[-1]}_odd": "X"}
        assert unknown_fields(layer) == (
            f"scale_param.{name.split('.')[-1]}_odd is a fork's field, whose effect is not known"
        )


def test_a_harmless_field_is_of_its_types_only() -> None:
    layer = Layer(LayerParameter(name="it", type="Scale"))
    layer.extra = {"convolution_param.conv_algorithm": "X"}
    assert unknown_fields(layer) is not None


def test_every_block_of_a_fork_is_opaque_elsewhere() -> None:
    """A Scale with a bn_param or a permute_param is no Scale that we know; a filler is harmless."""
    for kind, names in READ.items():
        for name in names:
            layer = Layer(LayerParameter(name="it", type="Scale"))
            layer.extra = {name.replace("*", "odd"): "1", "scale_param.filler.odd": "1"}
            if kind != "Scale":
                assert unknown_fields(layer) is not None or "." not in name, name
    layer.extra = {"scale_param.filler.odd": "1", "param.odd": "1", "beside": "2"}
    assert unknown_fields(layer) is None
    layer.extra["odd_param"] = ""
    assert unknown_fields(layer) == "odd_param is a fork's field, whose effect is not known"


def test_no_type_of_a_fork_is_an_identity_by_its_name() -> None:
    for kind in (*shapes.forks.RULES, "Python"):
        layer = Layer(LayerParameter(name="Dropout", type=kind, bottom=["x"], top=["y"]))
        if kind not in ("SpatialDropout", "Permute"):  # without an order, Permute moves nothing
            assert identity(layer, None) is False
