"""Facts: what the conditions of the table see of a layer, and of a net."""

from pathlib import Path
from typing import Any

import pytest

from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net
from caffe_merge.passes.targets.conditions import parse
from caffe_merge.passes.targets.facts import OF_LAYERS, LayerFacts, net_meets
from tests.nets import load, load_pair, prototxt, write_pair
from tests.nets import parse as parse_net

CONV = "c: Convolution data -> c { convolution_param { num_output: 8"
POOL = "p: Pooling data -> p { pooling_param {"
TRUE = [
    (f"{CONV} kernel_size: 3 kernel_size: 5 }} }}", "listed and kernel = 5 and "
     "smallest_kernel = 3"),
    (f"{CONV} kernel_size: 3 dilation: 2 dilation: 1 }} }}", "dilation_differs and dilation = 2"),
    (f"{CONV} kernel_size: 3 stride: 2 pad: 1 }} }}", "stride = 2 and pad = 1 and not listed"),
    (f"{CONV} kernel_size: 2 pad_h: 1 }} }}", "one_side and kernel_area = 4"),
    (f"{CONV} kernel_h: 2 kernel_w: 2 pad: 1 }} }}", "mixed and not one_side"),
    (f"{CONV} kernel_size: 1 group: 4 }} }}", "depthwise and multiplier = 2 and group = 4"),
    (f"{CONV} kernel_size: 1 group: 2 }} }}", "not depthwise and blob_rank = 4 and rank = 4"),
    (f"{POOL} pool: AVE kernel_size: 2 stride: 2 }} }}", "pool = AVE and partial"),
    (f"{POOL} kernel_size: 3 stride: 2 }} }}", "pool = MAX and not partial and pool absent"),
    (f"{POOL} pool: AVE global_pooling: true }} }}", "global_pooling and kernel = 9"),
    ("e: Eltwise data data -> e { eltwise_param { coeff: 1 coeff: -1 } }",
     "coefficients and bottoms = 2 and operation = SUM"),
    ("e: Eltwise data data -> e { eltwise_param { coeff: 1 coeff: 1 } }", "not coefficients"),
    ("e: Eltwise data data -> e { eltwise_param { coeff: 1 coeff: -1 } }", "not scaled"),
    ("e: Eltwise data data -> e { eltwise_param { coeff: 2 coeff: -1 } }", "scaled"),
    ("e: ReLU data -> data", "in_place and negative_slope absent and tops = 1 and output and "
     "rewrites = 1"),
    ("e: Softmax data -> e { softmax_param { axis: -3 } }", "axis < 0 and axis_from_front = 1"),
    ("e: Permute data -> e { permute_param { order: 0 order: 2 order: 3 order: 1 } }",
     "order = 0 2 3 1 and not batch_moves"),
    ("e: Permute data -> e { permute_param { order: 1 order: 0 } }", "batch_moves"),
    ("e_cpu: TanH data -> e", "name ends _cpu and not blanks and producer = Input"),
    ("e: BatchNorm data -> e", "factor > 0 and reader != Scale and use_global_stats absent"),
    ("e: InnerProduct data -> e { inner_product_param { num_output: 2 transpose: true } }",
     "transpose and not shared and shape_known"),
]  # fmt: skip


def last(net: Net) -> LayerFacts:
    graph = net.graph({})
    return LayerFacts(graph, graph.layers[-1])


@pytest.mark.parametrize(("line", "condition"), TRUE)
def test_a_layer(tmp_path: Path, line: str, condition: str) -> None:
    facts = last(load(tmp_path, prototxt("data 2 4 9 9", line)))
    for clause in parse(condition):
        assert facts.meets([clause]), clause


def test_every_fact_is_tested() -> None:
    spoken_of = {clause.fact for _, condition in TRUE for clause in parse(condition)}
    assert {*OF_LAYERS} - spoken_of == {"implicit", "stored_type"}


def test_what_is_not_known_meets_nothing(tmp_path: Path) -> None:
    text = 'layer { name: "d" type: "Input" top: "d" } layer { name: "p" type: "Pooling" '
    text += 'bottom: "d" top: "p" pooling_param { pool: AVE global_pooling: true } }'
    facts = last(parse_net(text))
    for condition in ("partial", "kernel > 0", "kernel <= 7", "rank = 4"):
        assert not facts.meets(parse(condition)), condition
    assert facts.meets(parse("not shape_known"))


def test_a_layer_as_it_would_be(tmp_path: Path) -> None:
    graph: Graph = load(tmp_path, prototxt("data 1 2 9 9", f"{CONV} kernel_size: 3 }} }}")).graph(
        {}
    )
    layer = graph.layers[-1]
    param: Any = type(layer.param)()
    param.CopyFrom(layer.param)
    param.convolution_param.kernel_size[:] = [9]
    assert LayerFacts(graph, layer, param).meets(parse("kernel = 9"))
    assert LayerFacts(graph, layer).meets(parse("kernel = 3"))


def test_the_type_in_the_weights(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, prototxt("data 1 2 9 9", f"{CONV} kernel_size: 3 }} }}"))
    assert last(load_pair(pair)).meets(parse("stored_type"))  # tests write none


def test_a_net() -> None:
    text = 'input: "a" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 '
    text += 'layer { name: "t" type: "TanH" bottom: "a" top: "t" } '
    text += 'layer { name: "s" type: "TanH" bottom: "t" top: "s" include { phase: TRAIN } }'
    net = parse_net(text)
    assert net_meets(net, parse("other_states and inputs = 1 and not old_format and not hdf5"))
    graph = net.graph({})
    assert LayerFacts(graph, graph.layers[0]).meets(parse("implicit and shape_known"))
