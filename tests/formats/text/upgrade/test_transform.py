"""Old fields of data layers; that real Caffe reads the same is in test_v1.py's table."""

import pytest

from tests.formats.text.upgrade.support import messages, upgraded

MOVED = {
    "to a block of its own": (
        "layers {\n  type: DATA # t\n  data_param {\n    source: 's'\n"
        "    scale: 0.0039 # of a byte\n    # how much\n    batch_size: 3\n    mirror: true\n"
        "  }\n  top: 't'\n}\n",
        "layer {\n  type: 'Data' # t\n  data_param {\n    source: 's'\n    # of a byte\n"
        "    # how much\n    batch_size: 3\n  }\n  top: 't'\n"
        "  transform_param {\n    scale: 0.0039\n    mirror: true\n  }\n}\n",
    ),
    "over what is there": (
        'layers { type: IMAGE_DATA image_data_param { scale: 2 crop_size: 5 } '
        'transform_param { scale: 3 mean_value: 4 } name: "d" }',
        'layer { type: "ImageData" image_data_param { } '
        'transform_param { scale: 2 crop_size: 5 mean_value: 4 } name: "d" }',
    ),
    "nothing to move": (
        'layers { type: WINDOW_DATA window_data_param { crop_mode: "warp" } }',
        'layer { type: "WindowData" window_data_param { crop_mode: "warp" } }',
    ),
    "of another type": (
        'layers { type: MVN data_param { scale: 3 source: "x" } }',
        'layer { type: "MVN" data_param { scale: 3 source: "x" } }',
    ),
    "of today": (
        'layer { type: "Data" data_param { scale: 3 } }',
        'layer { type: "Data" data_param { scale: 3 } }',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVED)
def test_text(case: str) -> None:
    text, expected = MOVED[case]
    assert upgraded(text) == expected


def test_what_moved_is_told_once() -> None:
    first = 'layers { name: "%s" type: DATA data_param { mirror: true } }'
    text = "".join(first % name for name in "abcdefg")
    assert messages(text)[1:] == [
        "the transformations of data layers 'a', 'b', 'c' and 4 more moved to transform_param"
    ]
