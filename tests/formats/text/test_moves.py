"""Layers moved in a text: all of the text is still there, comments with what they are above."""

from typing import List, Tuple

import pytest

from caffe_merge.formats.text.moves import moved
from caffe_merge.formats.text.syntax import Document

TEXT = """# a net
name: "net"
layer { name: "a" }  # first

# the second
layer {
  name: "b"  # inside
}

layer { name: "c" }
"""


def after(text: str, *moves: Tuple[int, int]) -> str:
    return moved(Document(text.encode()), moves).text


def test_comments_and_blank_lines_move_along() -> None:
    head, first, second, third = TEXT[:20], TEXT[20:49], TEXT[49:-21], TEXT[-21:]
    assert head + first + second + third == TEXT
    assert after(TEXT, (1, 0)) == head + second + first + third
    assert after(TEXT, (2, 0)) == head + third + first + second
    assert after(TEXT, (1, 0), (2, 0)) == head + second + third + first


@pytest.mark.parametrize("text", [
    'layer { name: "a" } layer { name: "b" } # b\nlayer { name: "c" }',
    'layer: [{ name: "a" }, # a\n{ name: "b" }, { name: "c" } # c\n];\n',
    'layer: { name: "a" }; layer: [{ name: "b" }, { name: "c" }]',
    'layer <name: "a">\r\nlayer <name: "b">\r\nlayer <name: "c">',
])  # fmt: skip
def test_however_it_is_written(text: str) -> None:
    """On one line, in a list, without an end of the last line."""
    new = after(text, (2, 1))
    names: List[str] = []
    for field in Document(new.encode()).fields:
        for value in field.values:
            (name,) = (value.fields or [])[0].values
            names.append(new[name.start : name.end])
    assert names == ['"a"', '"c"', '"b"']
    assert sorted(part for part in new.split() if "#" in part) == sorted(
        part for part in text.split() if "#" in part
    )
