"""What inspect tells: windows, shares, sums, and that nothing unknown counts as 0."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import List

import caffe_merge
from caffe_merge.command.inspection import Inspection
from caffe_merge.net.graph import Graph
from caffe_merge.net.propagation import parameter_counts
from tests.nets import prototxt

WINDOW = "num_output: 4 kernel_h: 3 kernel_w: 1 stride: 2 pad_h: 1 pad_w: 0 group: 2 dilation: 2"
NET = prototxt(
    "data 2 6 9 7",
    f"conv: Convolution data -> conv {{ convolution_param {{ {WINDOW} }} }}",
    "pool: Pooling conv -> pool { pooling_param { kernel_size: 2 stride: 2 } }",
    "fc: InnerProduct pool -> fc { inner_product_param { num_output: 5 } }",
)


def inspection(text: str) -> Inspection:
    with TemporaryDirectory() as folder:
        path = Path(folder, "net.prototxt")
        path.write_text(text)
        net = caffe_merge.load(str(path), None)
    graph = Graph(net.layers, net.input_shapes)
    return Inspection.of(graph, parameter_counts(net.layers, net.input_shapes))


def cells(text: str) -> List[List[str]]:
    return [line.split() for line in inspection(text).lines()]


def test_windows_counts_and_shares() -> None:
    table = cells(NET)
    assert table[0] == [
        "layer", "type", "kernel", "stride", "pad", "group", "output",
        "parameters", "multiply-adds", "share",
    ]  # fmt: skip
    conv = ["conv", "Convolution", "3x1", "dilated", "2", "2", "1x0", "2", "2x4x4x4", "40", "1,152"]
    assert table[3] == [*conv, "87.8", "%"]
    assert table[4] == ["pool", "Pooling", "2", "2", "2x4x2x2", "0", "0"]
    assert table[5] == ["fc", "InnerProduct", "2x5", "85", "160", "12.2", "%"]


def test_sums_by_type_and_what_they_count_for() -> None:
    table = cells(NET)
    assert ["type", "layers", "parameters", "multiply-adds", "share"] in table
    assert table[-2] == ["counted", "for", "data", "2x6x9x7"]
    # data, conv, pool and fc: 2x6x9x7, 2x4x4x4, 2x4x2x2 and 2x5 values
    assert table[-1][:3] == ["activations:", f"{4 * (756 + 128 + 2 * 32 + 10):,}", "bytes,"]
    total = inspection(NET).total
    assert (total.layers, total.parameters) == (4, 40 + 85)
    assert next(row for row in table if row[:1] == ["all"])[1:3] == ["4", "125"]


def test_what_is_not_known_is_no_zero() -> None:
    text = NET + prototxt("odd: Odd fc -> odd", "more: InnerProduct odd -> more { "
                          "inner_product_param { num_output: 2 } }")  # fmt: skip
    message = inspection(text)
    assert message.total.unknown_multiply_adds == 2
    assert message.types["Odd"].multiply_adds is None
    table = [line.split() for line in message.lines()]
    assert next(row for row in table if row[0] == "odd")[-1] == "?"
    assert any(row[:2] == ["all", "6"] and ">=" in row for row in table)
    assert " ".join(table[-1]) == "the multiply-adds of 2 layers are not known"


def test_a_net_of_which_nothing_is_known_has_no_totals() -> None:
    text = prototxt("odd: Odd  -> odd", "more: Odd odd -> more")
    rows = [line.split() or [""] for line in inspection(text).lines()]
    assert next(row for row in rows if row[0] == "all") == ["all", "2", "0", "?"]


def test_json_has_the_same() -> None:
    report = inspection(NET).to_json()
    conv = report["layers"][1]
    assert (conv["kernel"], conv["stride"], conv["pad"]) == ((3, 1), (2, 2), (1, 0))
    assert (conv["dilation"], conv["group"], conv["outputs"]) == ((2, 2), 2, [(2, 4, 4, 4)])
    assert report["inputs"] == {"data": (2, 6, 9, 7)}
    assert report["total"]["multiply_adds"] == sum(row["multiply_adds"] for row in report["layers"])
