"""Kernels side by side, held against the sum that defines a kernel, term by term."""

from typing import Dict, Tuple

import numpy as np
import pytest

from caffe_merge.algebra.beside import grouped, stacked
from caffe_merge.algebra.kernels import POINT, Axis, Kernel
from tests.algebra.test_kernels import applied, image, random_kernel, same


def test_stacked() -> None:
    """The outputs of one, then those of the other."""
    axis = Axis(-1, 3, stride=2)
    kernels = [random_kernel(2, 4, 1, [axis]), random_kernel(3, 4, 1, [axis], bias=False)]
    x = image(4, 8)
    same(stacked(kernels), x, np.concatenate([applied(kernel, x) for kernel in kernels]))


def test_what_does_not_stack() -> None:
    """Other windows, and groups."""
    kernel = random_kernel(2, 4, 1, [POINT])
    assert "windows differ" in str(stacked([kernel, random_kernel(2, 4, 1, [Axis(-1, 3)])]))
    assert "grouped" in str(stacked([kernel, random_kernel(2, 4, 2, [POINT])]))


@pytest.mark.parametrize("group", [1, 2])
def test_grouped(group: int) -> None:
    """Each reads its own part of the input; with groups of their own there are more of them."""
    axis = Axis(-1, 3, stride=2)
    kernels = [
        random_kernel(6, 4, group, [axis], bias=number != 1, seed=number) for number in range(3)
    ]
    x = image(12, 8)
    parts = zip(kernels, np.split(x, 3))
    whole = grouped(kernels)
    same(whole, x, np.concatenate([applied(kernel, part) for kernel, part in parts]))
    assert isinstance(whole, Kernel)
    assert whole.group == 3 * group


UNLIKE: Dict[str, Tuple[Kernel, str]] = {
    "windows": (random_kernel(4, 4, 1, [Axis(-1, 3)]), "their windows differ"),
    "inputs": (random_kernel(4, 2, 1, [POINT]), "different numbers of channels"),
    "outputs": (random_kernel(2, 4, 1, [POINT]), "different numbers of outputs"),
    "groups": (random_kernel(4, 4, 2, [POINT]), "differ in their groups"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_is_no_group(name: str) -> None:
    """And the reason."""
    other, reason = UNLIKE[name]
    assert reason in str(grouped([random_kernel(4, 4, 1, [POINT]), other]))


def test_without_bias() -> None:
    """None comes from nowhere."""
    kernels = [random_kernel(2, 2, 1, [POINT], bias=False)] * 2
    for whole in (stacked(kernels), grouped(kernels)):
        assert isinstance(whole, Kernel)
        assert whole.bias is None
