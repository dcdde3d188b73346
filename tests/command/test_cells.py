"""The cells of a list as flags."""

import pytest

from caffe_merge.command import cells
from caffe_merge.errors import UsageError


def test_cells_are_what_their_flags_would_make_of_them() -> None:
    arguments = {
        "mean": "104,117,123",
        "keep": "conv1; fc 8",
        "keep_shared": "yes",
        "deploy": "0",
        "swap_rgb": "true",
        "limit": "1e-3",
        "serial": "never",
        "validate": "none",
    }
    assert cells.parse(arguments) == {
        "mean": "104,117,123",
        "keep": ["conv1", "fc 8"],
        "keep_shared": True,
        "deploy": False,
        "swap_rgb": True,
        "limit": 1e-3,
        "serial": "never",
        "validate": "none",
    }
    assert cells.parse({"swap_rgb": "data"}) == {"swap_rgb": "data"}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"means": "1"}, "no flag of a pair is called 'means'; did you mean 'mean'?"),
        ({"force": "1"}, "no flag of a pair is called 'force'"),
        ({"deploy": "maybe"}, "--deploy: expected true or false, found 'maybe'"),
        ({"limit": "-1"}, "--limit: expected a number above 0, found -1"),
        ({"serial": "often"}, "--serial: expected one of auto, always, never, found 'often'"),
    ],
)
def test_what_no_flag_takes(cell: "dict[str, str]", message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cells.parse(cell)
    assert str(caught.value).startswith(message)
