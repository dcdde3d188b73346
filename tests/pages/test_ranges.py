"""The part of a page about 8 bits."""

from typing import Any, Dict, Optional

import numpy as np
import pytest

from caffe_merge.layers.range_table import table
from caffe_merge.pages.ranges import Section, section
from tests.nets import make_layer

KERNEL = np.array([[1.0, -2.0], [0.5, 0.25], [64.0, 3.0]]).reshape(3, 2, 1, 1)


def of(*layers: "tuple[str, np.ndarray]") -> Dict[str, Any]:
    result = []
    for name, kernel in layers:
        body = f"type: 'Convolution' convolution_param {{ num_output: {len(kernel)} }}"
        layer = make_layer(body, kernel, np.zeros(len(kernel)))
        layer.param.name = name
        result.append(layer)
    return table(result).to_json()


def tables_section(tables: Dict[str, Any], **numbers: int) -> Section:
    out = section(tables, numbers)
    assert out is not None
    return out


def test_bars_before_and_after_side_by_side() -> None:
    out = tables_section({"before": of(("a", KERNEL)), "after": of(("a", KERNEL * 2))}, a=7)
    before, after = out.spans
    assert (before.when, after.when, before.number) == ("before", "after", 7)
    assert before.x + before.width <= after.x + 1e-6
    assert before.top < before.middle < before.bottom
    assert after.top < before.top
    assert "channels from 0.5 to 64, median 2" in before.text
    (row,) = out.rows
    assert row["largest"] == ("64 \N{RIGHTWARDS ARROW} 128", 128)
    assert row["to_median"][0] == "32"
    assert row["wide"]
    assert out.summary.startswith("1 layer with")


def test_the_worst_first_and_bars_in_net_order() -> None:
    tables = {"after": of(("a", KERNEL[:2]), ("b", KERNEL))}
    out = tables_section(tables, a=0, b=1, relu=2)
    assert [row["name"] for row in out.rows] == ["b", "a"]
    assert [span.number for span in out.spans] == [0, 1]


@pytest.mark.parametrize(
    "kernel", [KERNEL * 0, KERNEL * 1e-300, np.full((3, 2, 1, 1), np.nan), KERNEL * 1e30]
)
def test_any_weights(kernel: np.ndarray) -> None:
    out: Optional[Section] = section({"after": of(("a", kernel))}, {"a": 0})
    for span in out.spans if out else ():
        assert 0 <= span.top <= span.middle <= span.bottom <= 100


def test_layers_that_are_only_on_one_side() -> None:
    out = tables_section({"before": of(("a", KERNEL)), "after": of(("b", KERNEL[:2]))}, a=0, b=1)
    assert [(span.number, span.when) for span in out.spans] == [(0, "before"), (1, "after")]
    assert "No layer's" in out.summary


def test_a_net_without_weights_has_no_section() -> None:
    assert section({"after": of()}, {"data": 0}) is None
