"""The typed view: what protobuf's own reader makes of a text, and what the schema does not know."""

import math
import time
from typing import List, Tuple

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.errors import TextError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.syntax import Document, encode
from caffe_merge.formats.text.values import parse_bool, parse_float, parse_integer
from caffe_merge.formats.text.view import View, extra_fields
from tests.formats.text.strategies import messages, styled
from tests.seeds import examples
from tests.speed import at_most

Read = Tuple[NetParameter, List[str]]


def view(text: str) -> Read:
    """The message that ``text`` says, and the names of what the schema does not know."""
    document = Document(encode(text), "net.prototxt")
    reader, message = View(document), NetParameter()
    reader.read(document.fields, message)
    for unknown in reader.unknown:
        name = unknown.name if unknown.name[0] == "[" else unknown.name.split(".")[-1]
        assert document.text.startswith(name, unknown.at)
    return message, [unknown.name for unknown in reader.unknown]


@examples(120)
@given(messages(NetParameter).flatmap(lambda m: st.tuples(st.just(m), styled(m))))
def test_any_message_in_any_style_is_read(case: Tuple[NetParameter, str]) -> None:
    message, text = case
    assert view(text) == (message, [])


@examples(120)
@given(messages(NetParameter))
def test_as_protobuf_reads_what_protobuf_writes(message: NetParameter) -> None:
    for options in ({}, {"as_one_line": True}, {"pointy_brackets": True}, {"as_utf8": True}):
        text = text_format.MessageToString(message, **options)
        expected = text_format.Parse(text, NetParameter())
        assert view(text) == (expected, [])


ODD = [
    "",
    "name: 'a' \"b\"\n# c\n'd'",
    r"name: '\a\b\f\n\r\t\v\\\'\"'",
    r'name: "\101\x42\x4a\303\251\xc3\xa9"',
    "name: \"tab\there, é, 😀, '#'\"",
    'name: ""',
    "force_backward: 1 debug_info: false",
    "force_backward: t debug_info: False",
    "input_dim: [1, 0x10, 010]; input_dim: 7, input_dim:[]",
    "input_dim: -0x10 input_dim: -2147483648 input_dim: 2147483647",
    "layer { loss_weight: [1., .5, 1e-5, 1.f, 2f, 1.5e+3f, -3, 0] }",
    "layer { loss_weight: [inf, -inf, infinity, -Infinity, INF] }",
    "layer { loss_weight: 3.4028235e38 loss_weight: 1e39 loss_weight: -1e300 }",
    "layer { loss_weight: 1e-45 loss_weight: 1e-60 loss_weight: 0.1 loss_weight: 16777217 }",
    "layer [{ name: 'a' }, < name: 'b' >] layer { name: 'c' } layer: []",
    "layer { phase: TEST } layer { phase: 0 } state { phase: TRAIN }",
    "input_shape { dim: 9223372036854775807 dim: -9223372036854775808 }",
    "layer { include { not_stage: ['x', \"y\"] min_level: -1 } pooling_param <> }",
]


@pytest.mark.parametrize("text", ODD)
def test_as_protobuf_reads_it(text: str) -> None:
    assert view(text) == (text_format.Parse(text, NetParameter()), [])


def test_forms_that_only_the_c_parser_reads() -> None:
    """Caffe's own parser takes a gap behind a minus, a byte order mark, and escapes by number."""
    message, _ = view(
        '\ufeffinput_dim: - 3 layer { loss_weight: -\t.5F } name: "\\u00e9\\U0001f600\\?"'
    )
    assert message == NetParameter(input_dim=[-3], layer=[{"loss_weight": [-0.5]}], name="é😀?")


def test_nan() -> None:
    message, _ = view("layer { loss_weight: [nan, NaN, -nan, nanf] }")
    assert len(message.layer[0].loss_weight) == 4
    assert all(math.isnan(value) for value in message.layer[0].loss_weight)


FORK = """
layer {
  name: "bn" type: "BatchNorm" icnet_param { a: 1 } quantize: true
  batch_norm_param { slope_filler { value: 1 } eps: 0.5 engine: FORK }
  convolution_param { num_output: 3 engine: MKL2017 pad: [1, 2] }
  pooling_param { pool: 17 }
}
cluster: [1, 2] empty: [] [caffe.ext] { x: 1 }
"""


def test_what_a_fork_added_is_listed_and_the_rest_is_read() -> None:
    message, unknown = view(FORK)
    layer = LayerParameter(name="bn", type="BatchNorm", pooling_param={})
    layer.batch_norm_param.eps = 0.5
    layer.convolution_param.num_output = 3
    layer.convolution_param.pad[:] = [1, 2]
    assert message == NetParameter(layer=[layer])
    assert unknown == [
        "layer.icnet_param",
        "layer.quantize",
        "layer.batch_norm_param.slope_filler",
        "layer.batch_norm_param.engine",
        "layer.convolution_param.engine",
        "layer.pooling_param.pool",
        "cluster",
        "empty",
        "[caffe.ext]",
    ]


INTEGER = "expected a 32-bit integer of at least 0 for 'num_output', found "
CASES = {
    "name: 5": "1:7: expected text in quotes for 'name', found '5'",
    "name { }": "1:6: expected text in quotes for 'name', found a block",
    "name: 'a'\nname: 'b'": "2:1: expected 'name' once in its block, it is there at line 1",
    "name: ['a', 'b']": "1:1: expected one value for 'name', found 2",
    "name: []": "1:1: expected one value for 'name', found 0",
    "layer: 5": "1:8: expected a { block } for 'layer'",
    "layer {\n  type: Pooling }": "2:9: expected text in quotes for 'type', found 'Pooling'",
    "layer { phase: 'TEST' }": "1:16: expected one of TRAIN, TEST for 'phase', found \"'TEST'\"",
    "force_backward: 2": "1:17: expected true or false for 'force_backward', found '2'",
    "input_dim: 2147483648": "1:12: expected a 32-bit integer for 'input_dim', found '2147483648'",
    "input_dim: 1.5": "1:12: expected a 32-bit integer for 'input_dim', found '1.5'",
    "input_dim: 08": "1:12: expected a 32-bit integer for 'input_dim', found '08'",
    "input_dim: 0x": "1:12: expected a 32-bit integer for 'input_dim', found '0x'",
    "input_shape { dim: 9e18 }": "1:20: expected a 64-bit integer for 'dim', found '9e18'",
    "layer { convolution_param { num_output: -1 } }": "1:41: " + INTEGER + "'-1'",
    "layer { convolution_param { num_output: 4294967296 } }": "1:41: " + INTEGER + "'4294967296'",
    "layer { loss_weight: '1' }": "1:22: expected a number for 'loss_weight', found \"'1'\"",
    "layer { loss_weight: 1.2.3 }": "1:22: expected a number for 'loss_weight', found '1.2.3'",
    "layer { loss_weight: infinite }": "1:22: expected a number for 'loss_weight', "
                                       "found 'infinite'",
    "layer { loss_weight: [1, x] }": "1:26: expected a number for 'loss_weight', found 'x'",
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_what_does_not_fit_its_field_is_an_error_with_its_place(text: str) -> None:
    with pytest.raises(TextError) as caught:
        view(text)
    assert str(caught.value) == "net.prototxt:" + CASES[text]
    # Protobuf rejects it too: we are no stricter than Caffe.
    with pytest.raises((text_format.ParseError, UnicodeError)):
        text_format.Parse(text, NetParameter())


def test_an_error_is_short_however_long_the_value() -> None:
    with pytest.raises(TextError) as caught:
        view(f"input_dim: {'9' * 100_000}")
    assert len(str(caught.value)) < 400
    assert str(caught.value).endswith("999' (100,000 characters)")


def test_what_was_found_is_told_however_long_the_list_of_what_was_expected() -> None:
    with pytest.raises(TextError) as caught:
        view("layers { type: 'Convolution' }")
    assert str(caught.value).endswith(" and 28 more for 'type', found \"'Convolution'\"")


def test_many_unknown_fields_take_linear_time() -> None:
    text = "layer {\n" + "  x: 1\n" * 200_000 + "}\n"
    start = time.process_time()
    document = Document(text.encode())
    reader = View(document)
    reader.read(document.fields, NetParameter())
    places = [document.place(unknown.at) for unknown in reader.unknown]
    assert places == [(line, 3) for line in range(2, 200_002)]
    assert time.process_time() - start < at_most(8)


def test_what_is_inside_an_unknown_block() -> None:
    """One note for the block; its scalars by dotted name, all values of a repeated one."""
    document = Document(
        b'a_param { mode: LEARN inner { x: 1.5 } order: 0 order: [2, 3] } b: "s t" b: "u" '
        b"convolution_param { engine: MKL odd < y: 1 > }"
    )
    view = View(document)
    view.read(document.fields, LayerParameter())
    names = ["a_param", "b", "b", "convolution_param.engine", "convolution_param.odd"]
    assert [unknown.name for unknown in view.unknown] == names
    assert extra_fields(view.unknown) == {
        "a_param": "",
        "a_param.mode": "LEARN",
        "a_param.inner": "",
        "a_param.inner.x": "1.5",
        "a_param.order": "0 2 3",
        "b": '"s t" "u"',
        "convolution_param.engine": "MKL",
        "convolution_param.odd": "",
        "convolution_param.odd.y": "1",
    }


@pytest.mark.parametrize("text", ["", "-", "- ", "-#", "--1", "x", "0x", "1e", ".", "-."])
def test_what_is_no_scalar(text: str) -> None:
    """A fork's field may hold anything: it is asked for as a number too."""
    assert parse_integer(text) is parse_float(text) is parse_bool(text) is None
