"""Strings of any bytes, as messages hold them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.formats.schema import strings
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.formats.text.values import format_string, parse_string
from tests.seeds import examples

CASES = {
    b"conv": "conv",
    "卷积é😀".encode(): "卷积é😀",
    "ö".encode("latin-1"): "\U0010fff6",
    "卷".encode("gbk"): "\U0010ffbe\U0010ffed",
    b"\xc3": "\U0010ffc3",  # half of a character
    "\U0010fff6".encode(): "\U0010fff4\U0010ff8f\U0010ffbf\U0010ffb6",  # four bytes, not the one
    "\U0010ff7f".encode(): "\U0010ff7f",
}


@pytest.mark.parametrize("data", CASES)
def test_decode(data: bytes) -> None:
    assert strings.decode(data) == CASES[data]
    assert strings.encode(CASES[data]) == data
    assert LayerParameter(name=CASES[data]).name == CASES[data]


@examples(100)
@given(st.lists(st.binary(max_size=3) | st.characters().map(
    lambda char: char.encode("utf-8", "surrogatepass")
) | st.sampled_from(["\U0010ff80".encode(), "\U0010ffff".encode(), b"\xf4\x8f"])))  # fmt: skip
def test_any_bytes_come_back(parts: "list[bytes]") -> None:
    data = b"".join(parts)
    text = strings.decode(data)
    assert strings.encode(text) == data
    assert LayerParameter(name=text).name == text
    written = format_string(text)
    assert strings.encode(parse_string(written) or "") == data
    assert parse_string(written.encode().decode()) == text  # it is UTF-8 itself
