"""merge-permutes: it fires, it refuses with its reason, and what it writes is right."""

from typing import Dict, List, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.algebra.orders import composed, origins
from tests.merger import Merged, Merger, assert_equal, random_inputs
from tests.nets import load_pair
from tests.real_caffe import RealCaffe
from tests.seeds import examples

IN = "data 2 3 5 4"
CONV = "c: Convolution data -> c { convolution_param { num_output: 6 kernel_size: 2 } }"
END = "end: TanH y -> end"


def permute(name: str, bottom: str, axes: Sequence[int], top: str = "") -> str:
    body = " ".join(f"order: {axis}" for axis in axes)
    return f"{name}: Permute {bottom} -> {top or name} {{ permute_param {{ {body} }} }}"


FIRST = permute("p", "c", (0, 2, 3, 1))
SECOND = permute("q", "p", (0, 2, 1, 3), "y")
BACK = permute("q", "p", (0, 3, 1, 2), "y")


def order_of(result: Merged, name: str) -> object:
    return result.layer(name).extra["permute_param.order"]


def test_two_become_one(merged: Merger) -> None:
    result = merged(IN, CONV, FIRST, SECOND, END)
    assert result.names == ["c", "q", "end"]
    assert order_of(result, "q") == "0 3 2 1"
    (change,) = result.report.changes
    assert (change.rewrite, change.removed, change.changed) == ("merge-permutes", ("p",), ("q",))


def test_two_that_undo_each_other_go(merged: Merger) -> None:
    assert merged(IN, CONV, FIRST, BACK, END).names == ["c", "end"]


@pytest.mark.parametrize("relu", ["r: ReLU p -> r", "r: ReLU p -> p"])
@pytest.mark.parametrize("second", [SECOND, BACK])
def test_through_a_relu(merged: Merger, relu: str, second: str) -> None:
    """What wrote in place still does, where nobody else reads what it writes over then."""
    top = relu[-1]
    lines = [IN, CONV, FIRST, relu, second.replace("Permute p", f"Permute {top}"), END]
    result = merged(*lines)
    assert result.names == ["c", "r", *(["q"] if second == SECOND else []), "end"]
    param = result.layer("r").param
    assert (param.bottom == param.top) == (top == "p")
    beside = merged(*lines, "other: TanH c -> other")
    assert beside.names == [*result.names, "other"]


def test_not_through_a_slope_for_each_channel(merged: Merger) -> None:
    prelu = "r: PReLU p -> r"
    result = merged(IN, CONV, FIRST, prelu, BACK.replace("Permute p", "Permute r"), END)
    result.refused("q", "behind Permute 'p': PReLU 'r' behind it does not compute each value")


def test_a_row_of_five(merged: Merger) -> None:
    orders = [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (1, 0, 2, 3), (1, 0, 2, 3)]
    lines = [permute(f"p{n}", f"p{n - 1}" if n else "c", axes) for n, axes in enumerate(orders)]
    result = merged(IN, CONV, *lines, "end: TanH p4 -> end")
    assert len(result.names) == 3
    assert order_of(result, result.names[1]) == "0 1 3 2"


def test_axes_that_are_not_named(merged: Merger) -> None:
    """They follow in their own order, so one that names fewer gets more words."""
    result = merged(IN, CONV, permute("p", "c", (0, 3)), permute("q", "p", (1,), "y"), END)
    assert order_of(result, "q") == "3 0 1 2"


def test_the_batch_axis_too(merged: Merger) -> None:
    lines = [permute("p", "c", (1, 0, 2, 3)), permute("q", "p", (3, 1, 0, 2), "y"), END]
    assert order_of(merged(IN, CONV, *lines), "q") == "3 0 1 2"


def test_net_input_and_output_keep_their_names(merged: Merger) -> None:
    lines = [permute("p", "data", (0, 2, 3, 1)), permute("q", "p", (0, 3, 1, 2), "y")]
    merged(IN, *lines).refused("q", "joins a net input to a net output")
    chain = [*lines, permute("s", "y", (0, 2, 3, 1)), permute("t", "s", (0, 3, 1, 2))]
    assert len(merged(IN, *chain).names) == 2
    result = merged(IN, lines[0], permute("q", "p", (0, 1, 3, 2), "y"))
    assert (result.names, order_of(result, "q")) == (["q"], "0 2 1 3")


def test_in_place_layers_around(merged: Merger) -> None:
    lines = [CONV, "r: ReLU c -> c", FIRST, BACK, "s: Sigmoid y -> y", END]
    assert merged(IN, *lines).names == ["c", "r", "s", "end"]


def test_the_memory_that_it_would_share(merged: Merger, forks_caffe: RealCaffe) -> None:
    """One that changes nothing has no memory of its own in SSD's Caffe."""
    lines = [CONV, FIRST, BACK, "s: Sigmoid y -> y", END, "other: TanH c -> other"]
    result = merged(IN, *lines)
    pairs = [
        (merged.folder / f"{stem}.prototxt", merged.folder / f"{stem}.caffemodel")
        for stem in ("net1", "net1_merged")
    ]
    inputs = random_inputs(load_pair(pairs[0]))
    before, after = (forks_caffe.forward_pair(*pair, inputs) for pair in pairs)
    assert_equal(before, after, 1e-5)
    assert result.names == ["c", "s", "end", "other"]


REFUSED: Dict[str, List[str]] = {
    "something else reads": [FIRST, SECOND, END, "b: TanH p -> b"],
    "kept as asked": [FIRST, SECOND, END],
    "a fork's field": [FIRST, SECOND.replace("order: 0", "odd: 1 order: 0"), END],
    "in place": [FIRST, "q: Permute p -> p { permute_param { order: 0 order: 2 order: 1 } }",
                 "end: TanH p -> end"],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(merged: Merger, reason: str) -> None:
    keep = ["p"] if reason == "kept as asked" else []
    only = ["merge-permutes"]
    merged(IN, CONV, *REFUSED[reason], keep=keep, only=only).refused("q", reason)


@pytest.mark.parametrize("only", [["drop-identity"], ["merge-permutes"]])
def test_one_that_changes_nothing_is_left_to_drop_identity(merged: Merger, only: List[str]) -> None:
    lines = [CONV, FIRST, "q: Permute p -> y", END]
    result = merged(IN, *lines, only=only)
    assert ("q" in result.names) == (only == ["merge-permutes"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("order: 0\n    order: 2\n    order: 1 # swapped\n    order: 3\n",
         "order: 0\n    order: 3\n    order: 2 # swapped\n    order: 1\n"),
        ("order: [0, 2, 1, 3]\n", "order: [0, 3, 2, 1]\n"),
        ("order: [0, 2]\n", "order: [0, 3, 2, 1]\n"),
        ("order: 0\n    order: 2\n", "order: 0\n    order: 3 order: 2 order: 1\n"),
        ("order: 0x0 order: [2, 1] order: 3\n", "order: 0 order: [3, 2] order: 1\n"),
    ],
)  # fmt: skip
def test_the_text_keeps_its_style(merged: Merger, old: str, new: str) -> None:
    text = (
        'layer { name: "data" type: "Input" top: "data"\n'
        "  input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }\n"
        'layer { name: "p" type: "Permute" bottom: "data" top: "p"\n'
        "  permute_param { order: 0 order: 2 order: 3 order: 1 } }\n"
        'layer {\n  name: "q"\n  type: "Permute"\n  bottom: "p"\n  top: "q"\n'
        f"  permute_param {{\n    {old}  }}\n}}\n"
    )
    result = merged(text)
    assert f"permute_param {{\n    {new}  }}" in result.text


@examples(60)
@given(data=st.data())
def _random_rows(merger: Merger, data: st.DataObject) -> None:
    """Permutes of any order in a row, what is between them sometimes read, or written in place."""
    lines, last = [IN, CONV], "c"
    for number in range(data.draw(st.integers(1, 5))):
        axes = data.draw(st.permutations(range(4)))
        named = next(n for n in range(5) if list(axes[n:]) == sorted(axes[n:]))
        lines.append(permute(f"p{number}", last, axes[:named]))
        last = f"p{number}"
        extra = data.draw(st.integers(0, 5))
        if extra == 0:
            lines.append(f"t{number}: TanH {last} -> t{number}")
        elif extra == 1:
            lines.append(f"t{number}: Sigmoid {last} -> {last}")
    names = [line.split(":")[0] for line in lines[1:]]
    keep = data.draw(st.lists(st.sampled_from(names), max_size=1))
    merger(*lines, f"end: TanH {last} -> end", keep=keep)


@pytest.mark.hypothesis
def test_random_rows(merged: Merger) -> None:
    _random_rows(merged)


@examples(30)
@given(st.permutations(range(4)), st.permutations(range(4)))
def test_algebra(first: List[int], second: List[int]) -> None:
    array = np.arange(120).reshape(2, 3, 4, 5)
    both = array.transpose(first).transpose(second)
    np.testing.assert_array_equal(array.transpose(composed(first, second)), both)
    np.testing.assert_array_equal(
        array.ravel()[origins(array.shape, first)].reshape(array.transpose(first).shape),
        array.transpose(first),
    )
