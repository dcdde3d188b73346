"""The outline of a text and of weights: the same key where they are one net's."""

from pathlib import Path

import pytest

from caffe_merge.formats.weights.formats import open_index
from caffe_merge.net import outline
from tests.nets import load_pair, parse, prototxt, seeded, write_pair

LINES = (
    "data 2 3 8 7",
    "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
    "bn: BatchNorm conv -> bn",
    "scale: Scale bn -> scale { scale_param { bias_term: true } }",
    "fc: InnerProduct scale -> fc { inner_product_param { num_output: 5 } }",
)


def test_a_pair_has_one_key(tmp_path: Path) -> None:
    text, weights = write_pair(tmp_path, prototxt(*LINES))
    of_text = outline.of_net(load_pair((text, None)), {})
    assert of_text.key == outline.of_weights(open_index(str(weights)))
    assert of_text.learned == {"conv", "bn", "scale", "fc"}
    assert of_text.layers == of_text.learned | {"data"}
    assert not of_text.training
    assert of_text.largest_layer == 5 * 4 * 6 * 5 + 5
    assert of_text.largest_top == 2 * 3 * 8 * 7
    assert of_text.all_tops == 2 * 3 * 8 * 7 + 3 * (2 * 4 * 6 * 5) + 10


def test_blobs_of_four_dimensions_as_old_files_have_them(tmp_path: Path) -> None:
    text = prototxt(*LINES)
    blobs = seeded(text)
    old = {name: [b.reshape((1,) * (4 - b.ndim) + b.shape) for b in blobs[name]] for name in blobs}
    _, weights = write_pair(tmp_path, text, old)
    assert outline.of_net(parse(text), {}).key == outline.of_weights(open_index(str(weights)))


@pytest.mark.parametrize(
    ("replaced", "by"),
    [
        (" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 7 } }", ""),  # nobody knows its shape
        ('"BatchNorm"', '"FancyNorm"'),  # nobody knows its blobs
    ],
)
def test_no_key_where_the_text_does_not_tell_all(replaced: str, by: str) -> None:
    text = prototxt(*LINES)
    assert replaced in text
    net = outline.of_net(parse(text.replace(replaced, by)), {})
    assert net.key is None
    assert net.learned >= {"conv"}


def test_shared_blobs_are_their_owners(tmp_path: Path) -> None:
    share = (
        "param { name: 'w' } param { name: 'b' } convolution_param { num_output: 3 kernel_size: 1 }"
    )
    text = prototxt(
        "data 1 3 4 5",
        f"a: Convolution data -> a {{ {share} }}",
        f"b: Convolution a -> b {{ {share} }}",
    )
    assert outline.of_net(parse(text), {}).learned == {"a"}


def test_nets_for_training() -> None:
    loss = prototxt(*LINES, "loss: SoftmaxWithLoss fc label -> loss")
    assert outline.of_net(parse(loss), {}).training
    data = prototxt("data: Data -> data label", *LINES[1:])
    assert outline.of_net(parse(data), {}).training
