"""The proof of layers that branch: what the passes propose passes, damaged in any way it does not.

A rewrite is taken from its pass, so the numbers are right; then one thing in it is made wrong.
"""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import numpy as np
import pytest

from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.merging.proof import prove
from caffe_merge.net.graph import Graph
from caffe_merge.options import Options
from caffe_merge.passes.fold_forward import FoldForward
from caffe_merge.passes.fold_through import FoldThrough
from caffe_merge.passes.merge_branches import MergeBranches
from caffe_merge.passes.merge_concat import MergeConcat
from caffe_merge.passes.merge_groups import MergeGroups
from caffe_merge.passes.merge_serial import MergeSerial
from caffe_merge.passes.rewriting.rewrite import Changes, Pass, Rewrite
from tests.nets import load, prototxt

IN = "data 2 6 9 11"


def conv(name: str, body: str, bottom: str = "data", outputs: int = 6) -> str:
    """A Convolution that writes a blob of its own name."""
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


def up(name: str, body: str) -> str:
    """A Deconvolution of twice the size."""
    fields = f"convolution_param {{ num_output: 6 stride: 2 {body} }}"
    return f"{name}: Deconvolution data -> {name} {{ {fields} }}"


K3, K1 = "kernel_size: 3 pad: 1", "kernel_size: 1"
SUM = "sum: Eltwise a b data -> sum"

NETS: Dict[str, Tuple[Type[Pass], List[str]]] = {
    "branches": (MergeBranches, [conv("a", K3), conv("b", K1), SUM]),
    "grouped": (
        MergeBranches, [conv("a", f"{K3} group: 3"), conv("b", f"{K1} group: 3"), SUM],
    ),
    "strided": (
        MergeBranches,
        [conv("a", f"{K3} stride: 2"), conv("b", f"{K1} stride: 2"), "sum: Eltwise a b -> sum"],
    ),
    "some": (
        MergeBranches,
        ["t: TanH data -> t", conv("a", K3), conv("b", K1),
         "sum: Eltwise t a b -> sum { eltwise_param { coeff: 2 coeff: -1 coeff: 3 } }"],
    ),
    "concat": (MergeConcat, [conv("a", K3), conv("b", K3, outputs=2), "j: Concat a b -> j"]),
    "groups": (
        MergeGroups,
        ["cut: Slice data -> p q", conv("a", K3, "p"), "r: ReLU a -> a", conv("b", K3, "q"),
         "s: ReLU b -> b", "j: Concat a b -> j"],
    ),
    "ups": (
        MergeBranches,
        [up("a", "kernel_size: 4 pad: 1 group: 2"), up("b", "kernel_size: 2 group: 2"),
         "sum: Eltwise a b -> sum"],
    ),
    "up_serial": (
        MergeSerial, [up("a", "kernel_size: 4 pad: 1"), conv("b", K1, "a", 5)],
    ),
    "serial": (MergeSerial, [conv("a", K3, outputs=8), conv("b", K1, "a", 5)]),
    "serial_grouped": (
        MergeSerial, [conv("a", f"{K3} group: 2", outputs=12), conv("b", f"{K1} group: 2", "a", 4)],
    ),
    "covering": (
        MergeSerial,
        [conv("a", "kernel_h: 9 kernel_w: 11", outputs=30), "f: Flatten a -> f",
         "b: InnerProduct f -> b { inner_product_param { num_output: 5 } }"],
    ),
    "forward": (
        FoldForward,
        ["s: Scale data -> s { scale_param { bias_term: true } }", conv("a", "kernel_size: 3", "s"),
         "b: InnerProduct s -> b { inner_product_param { num_output: 5 } }"],
    ),
    "through": (
        FoldThrough,
        [conv("a", K3), "r: ReLU a -> r", "p: Pooling r -> p { pooling_param { kernel_size: 2 } }",
         "b: Power p -> b { power_param { scale: 0.5 } }"],
    ),
}  # fmt: skip


def proposed(folder: Path, name: str) -> Tuple[Graph, Rewrite]:
    """The net ``name``, and the one rewrite that its pass finds."""
    return found_rewrite(folder, *NETS[name])


def found_rewrite(folder: Path, pass_type: Type[Pass], lines: List[str]) -> Tuple[Graph, Rewrite]:
    """The net of ``lines``, and the one rewrite that ``pass_type`` finds."""
    text = prototxt(IN, *lines)
    net = load(folder, text)
    graph = Graph(net.layers, {})
    items = pass_type(Options(serial="always")).find(graph)
    (rewrite,) = [item for item in items if isinstance(item, Rewrite)]
    return graph, rewrite


def judged(graph: Graph, rewrite: Rewrite) -> Optional[str]:
    """What the proof says."""
    return prove(graph, rewrite.layers, rewrite.changes, rewrite.reads)


@pytest.mark.parametrize("name", NETS)
def test_what_is_proposed_is_right(tmp_path: Path, name: str) -> None:
    """Every rewrite passes."""
    assert judged(*proposed(tmp_path, name)) is None


Damage = Callable[[Any, List[np.ndarray]], None]


def _tap(param: Any, blobs: List[np.ndarray]) -> None:
    blobs[0].reshape(-1)[-1] += 1e-3


def _first_tap(param: Any, blobs: List[np.ndarray]) -> None:
    blobs[0].reshape(-1)[0] += 1e-3


def _bias(param: Any, blobs: List[np.ndarray]) -> None:
    blobs[1][-1] += 1e-3


def _outputs_swapped(param: Any, blobs: List[np.ndarray]) -> None:
    blobs[0][[0, 1]] = blobs[0][[1, 0]]


def _inputs_swapped(param: Any, blobs: List[np.ndarray]) -> None:
    blobs[0][:, [0, 1]] = blobs[0][:, [1, 0]]


def _groups_swapped(param: Any, blobs: List[np.ndarray]) -> None:
    group = param.convolution_param.group
    each = blobs[0].shape[0] // group
    blobs[0][:] = np.roll(blobs[0], each, axis=0)


def _mirrored(param: Any, blobs: List[np.ndarray]) -> None:
    blobs[0][:] = blobs[0][..., ::-1].copy()


def _turned(param: Any, blobs: List[np.ndarray]) -> None:
    blobs[0][:] = blobs[0].swapaxes(-1, -2).copy()


def _border(param: Any, blobs: List[np.ndarray]) -> None:
    """A smaller kernel further in would have the same size: only the border differs."""
    blobs[0][..., 0] = 0


def _scaled(param: Any, blobs: List[np.ndarray]) -> None:
    blobs[0][0] *= 1 + 1e-4


WINDOWS = "branches grouped strided concat groups serial ups up_serial"
DAMAGES: Dict[str, Tuple[Damage, str]] = {
    "tap": (_tap, f"{WINDOWS} some serial_grouped covering forward"),
    "first_tap": (_first_tap, f"{WINDOWS} some covering forward"),
    "bias": (_bias, f"{WINDOWS} some covering forward through"),
    "outputs_swapped": (_outputs_swapped, f"{WINDOWS} covering"),
    "inputs_swapped": (_inputs_swapped, WINDOWS.replace("grouped", "covering forward")),
    "groups_swapped": (_groups_swapped, "grouped groups ups serial_grouped"),
    "mirrored": (_mirrored, f"{WINDOWS} forward through"),
    "turned": (_turned, f"{WINDOWS} forward"),
    "border": (_border, f"{WINDOWS} some"),
    "scaled": (_scaled, f"{WINDOWS} some covering forward through"),
}


@pytest.mark.parametrize(
    ("damage", "name"),
    [(key, name) for key, (_, names) in DAMAGES.items() for name in names.split()],
)
def test_damaged_values(tmp_path: Path, damage: str, name: str) -> None:
    """One wrong number, in any layer that takes others in, is seen."""
    graph, rewrite = proposed(tmp_path, name)
    for layer in [first for first, (_, blobs) in rewrite.changes.items() if blobs]:
        param, blobs = rewrite.changes[layer]
        values = [np.array(blob.float64()) for blob in blobs]
        if layer.type == "InnerProduct" and damage in ("turned", "mirrored"):
            continue
        DAMAGES[damage][0](param, values)
        changes: Changes = {**rewrite.changes, layer: (param, tuple(map(Dense, values)))}
        assert "output is off" in str(judged(graph, rewrite._replace(changes=changes))), layer


def _other(field: str, value: int) -> Callable[[Any], None]:
    def change(param: Any) -> None:
        getattr(param.convolution_param, field)[:] = [value]

    return change


def _swap(param: Any) -> None:
    param.eltwise_param.coeff[:] = reversed(param.eltwise_param.coeff)


FIELDS: Dict[str, Tuple[str, str, Callable[[Any], None]]] = {
    "pad": ("branches", "a", _other("pad", 0)),
    "stride": ("strided", "a", _other("stride", 3)),
    "dilation": ("branches", "a", _other("dilation", 2)),
    "dilation_with_its_pad": (
        "serial",
        "a",
        lambda p: (_other("dilation", 2)(p), _other("pad", 2)(p)),
    ),
    "coeff": ("some", "sum", _swap),
}


@pytest.mark.parametrize("name", FIELDS)
def test_damaged_parameters(tmp_path: Path, name: str) -> None:
    """Right numbers in the wrong window, or in the wrong sum."""
    net, changed, damage = FIELDS[name]
    graph, rewrite = proposed(tmp_path, net)
    layer = next(layer for layer in rewrite.changes if layer.name == changed)
    param, blobs = rewrite.changes[layer]
    damage(param)
    changes: Changes = {**rewrite.changes, layer: (param, blobs)}
    assert judged(graph, rewrite._replace(changes=changes)) is not None


def test_another_branch_in_its_place(tmp_path: Path) -> None:
    """The Eltwise goes on with the wrong one of its bottoms."""
    graph, rewrite = proposed(tmp_path, "some")
    (layer,) = rewrite.reads
    assert rewrite.reads[layer] == (0, 1)
    wrong = rewrite._replace(reads={layer: (1, 1)})
    assert judged(graph, wrong) is not None


def test_a_layer_too_many_goes(tmp_path: Path) -> None:
    """Without the ReLU the values are others."""
    graph, rewrite = proposed(tmp_path, "through")
    changes = {layer: new for layer, new in rewrite.changes.items() if layer.type != "ReLU"}
    assert "output is off" in str(judged(graph, rewrite._replace(changes=changes)))


def test_a_border_that_differs(tmp_path: Path) -> None:
    """1x1 with bias, then 3x3: right without padding, and wrong at the border with it."""
    inner = [conv("a", K1), conv("b", "kernel_size: 3", "a")]
    _, rewrite = found_rewrite(tmp_path, MergeSerial, inner)
    ((param, blobs),) = rewrite.changes.values()
    text = prototxt(IN, inner[0], conv("b", K3, "a"))
    net = load(tmp_path, text)
    first, second = net.layers[1:]
    param.convolution_param.pad.append(1)
    failure = prove(Graph(net.layers, {}), (first, second), {second: (param, blobs)}, {})
    assert "output is off" in str(failure)


def test_few_channels_beside_many(tmp_path: Path) -> None:
    """Of many channels a sample runs, and some of each bottom of a Concat are in it."""
    lines = [conv("a", K1, outputs=90), conv("b", K1, outputs=1), conv("c", K1, outputs=90)]
    graph, rewrite = found_rewrite(tmp_path, MergeConcat, [*lines, "j: Concat a b c -> j"])
    ((layer, (param, blobs)),) = rewrite.changes.items()
    assert judged(graph, rewrite) is None
    for row in (0, 89, 90, 91, 180):
        values = [np.array(blob.float64()) for blob in blobs]
        values[0][row] *= 1.001
        changes: Changes = {layer: (param, tuple(map(Dense, values)))}
        assert "output is off" in str(judged(graph, rewrite._replace(changes=changes))), row


@pytest.mark.parametrize("sizes", ["7", "4 5 6"])
def test_one_spatial_axis_and_three(tmp_path: Path, sizes: str) -> None:
    """The patch has as many as the blob."""
    lines = [conv("a", K3), conv("b", K1), SUM]
    text = prototxt(f"data 2 6 {sizes}", *lines)
    net = load(tmp_path, text)
    graph = Graph(net.layers, {})
    (rewrite,) = MergeBranches().find(graph)
    assert isinstance(rewrite, Rewrite)
    assert judged(graph, rewrite) is None
    ((layer, (param, blobs)),) = rewrite.changes.items()
    values = [np.array(blob.float64()) for blob in blobs]
    values[0][..., 0] *= 1.001
    changes: Changes = {layer: (param, tuple(map(Dense, values)))}
    assert "output is off" in str(judged(graph, rewrite._replace(changes=changes)))
