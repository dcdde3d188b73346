"""What forward checks before a layer's own function runs."""

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.errors import CaffeMergeError, NetError, WeightsError
from caffe_merge.layers.shapes.rules import rule_of
from tests.nets import parse_spec

DENSE = parse_spec('name: "fc" type: "InnerProduct" top: "y" inner_product_param { num_output: 2 }')
X, W, B = np.ones((1, 3)), np.arange(6.0).reshape(2, 3), np.ones(2)


def test_unknown_type() -> None:
    with pytest.raises(reference.Unsupported, match="layer 'd' \\(DetectionOutput\\)"):
        reference.forward(parse_spec('name: "d" type: "DetectionOutput" top: "y"'), [], [X])
    assert issubclass(reference.Unsupported, CaffeMergeError)


def test_input_is_the_callers() -> None:
    with pytest.raises(reference.Unsupported):
        reference.forward(parse_spec('type: "Input" top: "data"'), [], [])


def test_every_supported_type_has_a_shape_rule() -> None:
    assert [kind for kind in reference.SUPPORTED if rule_of(kind) is None] == []


def test_blobs_of_other_shapes() -> None:
    with pytest.raises(WeightsError, match=r"'fc'.*expected 2 blobs, found 1"):
        reference.forward(DENSE, [W], [X])
    with pytest.raises(
        WeightsError, match=r"'fc', blob 0: expected shape \(2, 3\), found \(3, 2\)"
    ):
        reference.forward(DENSE, [W.T, B], [X])


def test_blobs_of_old_files_have_four_axes() -> None:
    (y,) = reference.forward(DENSE, [W.reshape(1, 1, 2, 3), B.reshape(1, 1, 1, 2)], [X])
    np.testing.assert_array_equal(y, [[4, 13]])
    with pytest.raises(WeightsError):
        reference.forward(DENSE, [W.reshape(2, 3, 1, 1), B], [X])


def test_bottoms_that_do_not_fit() -> None:
    layer = parse_spec('name: "sum" type: "Eltwise" top: "y"')
    with pytest.raises(NetError, match="layer 'sum'"):
        reference.forward(layer, [], [np.ones((2, 3)), np.ones((1, 3))])


def test_parameter_is_its_blob() -> None:
    layer = parse_spec('type: "Parameter" top: "y" parameter_param { shape { dim: 2 } }')
    np.testing.assert_array_equal(reference.forward(layer, [B], [])[0], B)
