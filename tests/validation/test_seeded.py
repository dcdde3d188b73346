"""Values drawn by chance."""

import random
from typing import List

import numpy as np
import pytest

from caffe_merge.validation.seeded import Seeded


def test_a_seed_gives_the_same_values_and_another_one_others() -> None:
    first, same, other = Seeded("a", 1), Seeded("a", 1), Seeded("a", 2)
    values = first.normal((2, 3))
    assert np.array_equal(values, same.normal((2, 3)))
    assert not np.array_equal(values, other.normal((2, 3)))
    assert not np.array_equal(values, first.normal((2, 3)))
    assert Seeded("\udc80").below(1) == 0  # a name may be any bytes


def test_the_bits_are_those_of_every_machine() -> None:
    """The same with every version of Python and numpy that this is tested with."""
    assert Seeded("a").uniform((3,)) == pytest.approx([0.78916, 0.399359, 0.147824], abs=1e-6)
    assert Seeded("a").signs((6,), 0.5).tolist() == [-0.5, -0.5, -0.5, 0.5, 0.5, -0.5]
    assert Seeded("\U0001fae8").below(1000) == 225  # a letter that not every version knows
    assert Seeded("a").normal((2,)) == pytest.approx([-0.555105, 0.406732], abs=1e-6)


def test_many_values_are_drawn_in_pieces() -> None:
    """Python's generator gives less than 2^31 bits at once: a large layer has more weights."""
    draws, whole = Seeded("a"), Seeded("a")
    asked: List[int] = []

    class Watched(random.Random):
        def getrandbits(self, k: int) -> int:
            asked.append(k)
            return super().getrandbits(k)

    draws._random = Watched(ascii(("a",)))
    values = draws.uniform((3, 200_000))
    assert sum(asked) == 32 * values.size
    assert max(asked) < 2**24
    assert np.array_equal(values, whole.uniform((600_000,)).reshape(values.shape))


@pytest.mark.parametrize("count", [1, 2, 3, 300_001])
def test_normal_values(count: int) -> None:
    """Mean, deviation, fourth moment and tails, within what chance allows; more than one piece."""
    values = Seeded(0).normal((1, count))
    assert values.shape == (1, count)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    if count > 1000:
        wide = values.astype(np.float64)
        assert wide.mean() == pytest.approx(0, abs=0.01)
        assert wide.std() == pytest.approx(1, abs=0.01)
        assert (wide**4).mean() == pytest.approx(3, abs=0.05)
        assert 4 < np.abs(wide).max() < 6
        assert np.corrcoef(wide[0, 1:], wide[0, :-1])[0, 1] == pytest.approx(0, abs=0.01)
        half = 1 << 17  # where a piece's second half begins, made of the same bits as the first
        assert np.corrcoef(wide[0, :half], wide[0, half : 2 * half])[0, 1] < 0.01


def test_uniform_values_signs_and_numbers() -> None:
    draws = Seeded("x")
    values = draws.uniform((4, 5000), 2.0, 6.0)
    assert 2 < values.min() < 2.01
    assert 5.99 < values.max() < 6
    assert values.mean() == pytest.approx(4, abs=0.05)
    signs = draws.signs((4, 5000), 0.5)
    assert set(signs.flat) == {0.5, -0.5}
    assert abs(signs.mean()) < 0.02
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}


def test_shapes_without_values_and_without_axes() -> None:
    draws = Seeded()
    assert draws.normal((0, 3)).shape == draws.uniform((0, 3)).shape == (0, 3)
    assert draws.normal(()).shape == draws.signs((), 1.0).shape == ()
