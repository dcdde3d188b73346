"""Scale, Bias, Eltwise, Reduction and ArgMax against real Caffe."""

import numpy as np
import pytest

from caffe_merge import reference
from tests.nets import parse_spec
from tests.reference.cases import Case, Shapes, as_caffe, normal

FULL = (2, 3, 4, 5)


def scale(name: str, param: str, *bottoms: tuple) -> Case:
    """A Scale of (2, 3, 4, 5) unless told otherwise."""
    return Case(name, f'type: "Scale" scale_param {{ {param} }}', bottoms or (FULL,))


def bias(name: str, param: str, *bottoms: tuple) -> Case:
    """A Bias of (2, 3, 4, 5) unless told otherwise."""
    return Case(name, f'type: "Bias" bias_param {{ {param} }}', bottoms or (FULL,))


def eltwise(name: str, param: str, number: int = 2) -> Case:
    """An Eltwise of ``number`` bottoms."""
    return Case(name, f'type: "Eltwise" eltwise_param {{ {param} }}', (FULL,) * number)


def few(expected: Shapes) -> list:
    """Small integers, so that many are equal."""
    return [np.floor(3 * x) for x in normal("few", expected)]


CASES = [
    scale("scale", ""),
    scale("scale_bias", "bias_term: true"),
    scale("scale_axes", "axis: 1 num_axes: 2 bias_term: true"),
    scale("scale_to_end", "axis: -2 num_axes: -1 bias_term: true"),
    scale("scale_from_0", "axis: 0 num_axes: 2"),
    scale("scale_scalar", "num_axes: 0 bias_term: true"),
    scale("scale_2d", "bias_term: true", (4, 6)),
    scale("scale_by", "", FULL, (3,)),
    scale("scale_by_bias", "axis: 1 bias_term: true", FULL, (3, 4)),
    scale("scale_by_all", "axis: 0", FULL, FULL),
    scale("scale_by_scalar", "axis: 2 bias_term: true", FULL, ()),
    bias("bias", ""),
    bias("bias_axes", "axis: -3 num_axes: 2"),
    bias("bias_scalar", "num_axes: 0"),
    bias("bias_to_end", "axis: 2 num_axes: -1"),
    bias("bias_by", "axis: 0", FULL, (2, 3)),
    eltwise("sum", ""),
    eltwise("sum_coeff", "coeff: 2 coeff: -0.5 coeff: 1", 3),
    eltwise("product", "operation: PROD", 3),
    eltwise("maximum", "operation: MAX", 3),
    eltwise("maximum_coeff", "operation: MAX coeff: 2 coeff: 3"),
    *(
        Case(f"reduce_{op}_{n}", f'type: "Reduction" reduction_param {{ operation: {op} {param} }}')
        for op in ("SUM", "ASUM", "SUMSQ", "MEAN")
        for n, param in enumerate(("", "axis: 1", "axis: -1 coeff: 0.5"))
    ),
    *(
        Case(f"argmax_{n}", f'type: "ArgMax" argmax_param {{ {param} }}', (FULL,), inputs=few)
        for n, param in enumerate(
            (
                "",
                "top_k: 4",
                "top_k: 4 out_max_val: true",
                "axis: 1",
                "axis: -1 top_k: 3",
                "axis: 2 top_k: 2 out_max_val: true",
            )
        )
    ),
    Case("argmax_2d", 'type: "ArgMax" argmax_param { top_k: 2 }', ((3, 7),)),
    Case("argmax_5d", 'type: "ArgMax" argmax_param { out_max_val: true }', ((2, 3, 2, 3, 2),)),
]


test_as_caffe = as_caffe(CASES)


X = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])


@pytest.mark.parametrize(
    ("body", "blobs", "bottoms", "expected"),
    [
        ("Scale", [[2, 3, 4]], [X], [[2, -6, 12], [8, 15, -24]]),
        (
            'Scale" scale_param { bias_term: true axis: 0 } name: "',
            [[2, 3], [10, 20]],
            [X],
            [[12, 6, 16], [32, 35, 2]],
        ),
        ("Bias", [[2, 3, 4]], [X], [[3, 1, 7], [6, 8, -2]]),
        ("Scale", [], [X, [2, 3, 4]], [[2, -6, 12], [8, 15, -24]]),
        ("Eltwise", [], [X, 2 * X], 3 * X),
        ("Reduction", [], [X], 5.0),
        ("ArgMax", [], [X], [[[2]], [[1]]]),
        ('ArgMax" argmax_param { top_k: 3 } name: "', [], [[[5, 7, 7, 5]]], [[[2, 1, 3]]]),
    ],
)
def test_by_hand(body: str, blobs: list, bottoms: list, expected: list) -> None:
    layer = parse_spec(f'type: "{body}" top: "y"')
    arrays = [[np.asarray(value, float) for value in values] for values in (blobs, bottoms)]
    (y,) = reference.forward(layer, *arrays)
    np.testing.assert_array_equal(y, expected)
