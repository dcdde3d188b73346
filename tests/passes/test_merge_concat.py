"""merge-concat: convolutions of one blob, side by side in a Concat, become one."""

from typing import Dict, List, Tuple

import pytest

from tests.merger import Merger

IN = "data 2 6 9 11"


def conv(name: str, outputs: int, body: str = "kernel_size: 3", bottom: str = "data") -> str:
    """A Convolution that writes a blob of its own name."""
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


A, B, C = conv("a", 4), conv("b", 5), conv("c", 3, "kernel_size: 3 bias_term: false")
TANH = "t: TanH data -> t"

# The layers, what the Concat reads, the layers left, and the channels of the one convolution.
INTO_ONE: Dict[str, Tuple[List[str], str, List[str], int]] = {
    "two": ([A, B], "a b", ["a"], 9),
    "three": ([A, B, C], "a b c", ["a"], 12),
    "other_order": ([A, B, C], "c b a", ["c"], 12),
    "no_bias": ([C, conv("d", 2, "kernel_size: 3 bias_term: false")], "c d", ["c"], 5),
    "beside_another": ([conv("a", 4, "kernel_size: 1"), conv("b", 5, "kernel_size: 1"), TANH],
                       "t a b", ["a", "t", "cat"], 9),
    "same_window_written_otherwise": (
        [conv("a", 4, "kernel_size: 3 pad: 0"), conv("b", 5, "kernel_h: 3 kernel_w: 3")],
        "a b", ["a"], 9,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INTO_ONE)
def test_side_by_side(merged: Merger, name: str) -> None:
    """One convolution with the outputs of all, in the order of the Concat."""
    lines, bottoms, left, outputs = INTO_ONE[name]
    result = merged(IN, *lines, f"cat: Concat {bottoms} -> cat", "relu: ReLU cat -> relu")
    assert result.names == [*left, "relu"]
    first = next(item for item in left if item in "abcd")
    assert result.layer(first).param.convolution_param.num_output == outputs
    assert result.layer(first).blobs[0].shape[0] == outputs


def test_two_rows(merged: Merger) -> None:
    """Of two blobs, in two rows; the Concat stays with one bottom for each."""
    result = merged(
        IN,
        TANH,
        A,
        B,
        conv("c", 3, bottom="t"),
        conv("d", 2, bottom="t"),
        "cat: Concat a b c d -> cat",
        "relu: ReLU cat -> relu",
    )
    assert result.names == ["t", "a", "c", "cat", "relu"]


def test_only_neighbours_of_one_window(merged: Merger) -> None:
    """The pair of 1x1 among four."""
    pair = [conv("p", 4, "kernel_size: 1 pad: 1"), conv("q", 5, "kernel_size: 1 pad: 1")]
    wide = [conv("v", 3, "kernel_size: 5 pad: 3"), conv("w", 2, "kernel_size: 3 pad: 2")]
    result = merged(IN, *pair, *wide, "cat: Concat v p q w -> cat", "relu: ReLU cat -> relu")
    assert result.names == ["p", "v", "w", "cat", "relu"]
    result.refused("cat", "their windows differ")


REFUSED = {
    "windows": ([A, conv("b", 5, "kernel_size: 5 pad: 1")], "a b", "their windows differ"),
    "groups": ([conv("a", 4, "kernel_size: 3 group: 2"), B], "a b", "they are grouped"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_they_stay(merged: Merger, name: str) -> None:
    """And the reason is told."""
    lines, bottoms, reason = REFUSED[name]
    result = merged(IN, *lines, f"cat: Concat {bottoms} -> cat", "relu: ReLU cat -> relu")
    assert result.names == ["a", "b", "cat", "relu"]
    result.refused("cat", reason)


def test_another_reader(merged: Merger) -> None:
    """A convolution that somebody else reads as well stays."""
    lines = [A, B, "t: TanH b -> t", "cat: Concat a b -> cat"]
    assert merged(IN, *lines).names == ["a", "b", "t", "cat"]


def test_along_another_axis(merged: Merger) -> None:
    """Not side by side in the channels: nothing to do."""
    lines = [A, conv("b", 4), "cat: Concat a b -> cat { concat_param { axis: 2 } }"]
    assert merged(IN, *lines).names == ["a", "b", "cat"]


def test_keep(merged: Merger) -> None:
    """A layer that is to stay is no part of it."""
    lines = [A, B, C, "cat: Concat a b c -> cat"]
    assert merged(IN, *lines, keep=["b"]).names == ["a", "b", "c", "cat"]


def test_shared_weights(merged: Merger) -> None:
    """Of those in one row all go but the first, which shares with nobody then."""
    shared = 'num_output: 4 kernel_size: 3 bias_term: false } param { name: "w" '
    lines = [f"{n}: Convolution data -> {n} {{ convolution_param {{ {shared} }} }}" for n in "pq"]
    lines += [A, "cat: Concat a p q -> cat"]
    assert merged(IN, *lines, keep_shared=True).names == ["a"]
    assert merged(IN, *lines).names == ["a"]


def test_memory_written_by_another(merged: Merger) -> None:
    """The second reads something else than the first by then."""
    result = merged(
        IN, conv("x", 6, "kernel_size: 1"), conv("a", 4, bottom="x"), "flat: Flatten x -> flat",
        "tanh: TanH flat -> flat", conv("b", 5, bottom="x"), "cat: Concat a b -> cat",
    )  # fmt: skip
    result.refused("cat", "the memory of 'x' is written in place by another")


def test_few_channels_beside_many(merged: Merger) -> None:
    """The proof sees those too."""
    lines = [conv("a", 70), conv("b", 1), conv("c", 70), "cat: Concat a b c -> cat"]
    assert merged(IN, *lines).names == ["a"]


def test_one_spatial_axis_and_three(merged: Merger) -> None:
    """As many as the blob has."""
    for sizes in ("7", "4 5 6"):
        lines = [A, B, "cat: Concat a b -> cat", "t: TanH cat -> t"]
        assert merged(f"data 2 6 {sizes}", *lines).names == ["a", "t"]


def test_and_what_is_behind(merged: Merger) -> None:
    """One convolution, which then takes in the one that reads it."""
    lines = [A, B, "cat: Concat a b -> cat", conv("last", 3, "kernel_size: 1", "cat")]
    assert merged(IN, *lines, "t: TanH last -> t").names == ["a", "t"]
