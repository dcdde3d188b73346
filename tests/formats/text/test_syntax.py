"""The syntax tree: whatever is accepted comes back byte for byte, and errors say where."""

import os
import re
from pathlib import Path
from typing import Iterator, List

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caffe_merge.errors import CaffeMergeError, TextError
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.text import syntax
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.syntax import Document, Field, encode
from tests.formats.text.strategies import messages, styled
from tests.seeds import examples


def tree(data: bytes) -> Document:
    """Read ``data`` and hold it against what it promises: it comes back, spans are in order."""
    document = Document(data)
    assert encode(Edits(document).text()) == data
    check_spans(document, document.fields, 0, len(document.text))
    return document


def check_spans(document: Document, fields: List[Field], start: int, end: int) -> None:
    """Fields lie inside their block one behind the other, and begin with their name."""
    for field in fields:
        assert start <= field.start < field.end <= end
        assert document.text.startswith(field.name, field.start)
        start = field.start
        for value in field.values:
            assert start < value.start < value.end <= field.end
            if value.fields is not None:
                check_spans(document, value.fields, value.start + 1, value.end - 1)
            start = value.end
        start = field.end


def shown(document: Document, fields: List[Field]) -> list:
    """The tree as nested lists: a test's short form of it."""
    return [
        [f.name]
        + [document.source(v) if v.fields is None else shown(document, v.fields) for v in f.values]
        for f in fields
    ]


@examples(120)
@given(messages(NetParameter).flatmap(styled), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_any_text_comes_back(text: str, bom: bytes) -> None:
    tree(bom + text.encode())


TOKENS = ["a", "b:", ":", "{", "}", "<", ">", "[", "]", ",", ";", "-", "1", ".5", '"', "'", "\\"]
TOKENS += ["#", "\n", "\r\n", "\r", " ", "\t", "\ufeff", "\udcff", "\0", "é", '"x"', "a: 1", "0x"]


@examples(120)
@given(st.lists(st.sampled_from(TOKENS), max_size=12).map("".join))
def test_any_tokens_come_back_or_are_an_error_with_its_place(text: str) -> None:
    error = None
    try:
        tree(encode(text))
    except TextError as caught:
        error = caught
    if error is not None:
        assert 1 <= error.line <= text.count("\n") + 1
        assert 1 <= error.column <= max(map(len, text.split("\n"))) + 1
        assert str(error).startswith(f"<text>:{error.line}:{error.column}: expected ")
        assert "\n" not in str(error)


PLAIN = ["a: 1", "b:2", 'c: "x"', "d:\t-e", "f: 1.5e-3", "g {", "}", "\n", " ", "\r\n", "# h: 3\n"]
PLAIN += [";", ",", '"', "'y'", '"\\""', "-", "[4]", ":", "i"]


@examples(120)
@given(st.lists(st.sampled_from(PLAIN), max_size=12).map("".join))
@example('a: "x" "y"')
@example("a: \"x\" 'y'")
@example("a: 1 'y'")
@example("a: 1; b: 2, c: 3")
def test_plain_fields_read_at_once_are_read_the_same(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fast = places(text)
        patch.setattr(syntax, "_PLAIN", re.compile("(?!)"))
        assert fast == places(text)


def places(text: str) -> object:
    """Where every field and value of ``text`` stands, or the error."""

    def inside(fields: List[Field]) -> list:
        return [
            (f.name, f.start, f.end, [(v.start, v.end, inside(v.fields or [])) for v in f.values])
            for f in fields
        ]

    try:
        return inside(Document(encode(text)).fields)
    except TextError as error:
        return str(error)


@examples(120)
@given(st.binary(max_size=40))
def test_any_bytes_come_back_or_are_an_error(data: bytes) -> None:
    try:
        tree(data)
    except TextError:
        return


FORMS = {
    'a: 1 b:2;c :3, d\n:\n4': [["a", "1"], ["b", "2"], ["c", "3"], ["d", "4"]],
    "a { } b: { } c < > d:<>": [["a", []], ["b", []], ["c", []], ["d", []]],
    "a { b { c: X } d <e:1> }": [["a", [["b", [["c", "X"]]], ["d", [["e", "1"]]]]]],
    "a: 'x' \"y\"\n# no\n'z' b: 1": [["a", "'x' \"y\"\n# no\n'z'"], ["b", "1"]],
    "a: '}#' b: \"\\\"{\"": [["a", "'}#'"], ["b", '"\\"{"']],
    "a: [1, -2 , 0x3]": [["a", "1", "-2", "0x3"]],
    "a: [] b: [ # none\n ]": [["a"], ["b"]],
    "a [{b: 1}, <b: 2>]": [["a", [["b", "1"]], [["b", "2"]]]],
    "a: ['x' 'y', 'z']": [["a", "'x' 'y'", "'z'"]],
    "a: - 1 b: -inf c: -.5e+3f": [["a", "- 1"], ["b", "-inf"], ["c", "-.5e+3f"]],
    "a: 1.f b: 1e-5 c: .5 d: 5. e: 1E+5": [
        ["a", "1.f"], ["b", "1e-5"], ["c", ".5"], ["d", "5."], ["e", "1E+5"],
    ],
    "[caffe.ext]: 1 [ x.y/z ] { a: 2 }": [["[caffe.ext]", "1"], ["[ x.y/z ]", [["a", "2"]]]],
    "# only\n\n# comments": [],
    "": [],
    "\ufeff": [],
    "\ufeffa: 1": [["a", "1"]],
    "a: 1 # no newline": [["a", "1"]],
    "a: 1\r\n\r\n# x\r\nb: 2\r\n": [["a", "1"], ["b", "2"]],
    "a: 1 #\udcff\udcfe latin-1\n b: '\udce9'": [["a", "1"], ["b", "'\udce9'"]],
}  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_form(text: str) -> None:
    document = tree(encode(text))
    assert shown(document, document.fields) == FORMS[text]


ERRORS = {
    "a 1": (1, 3, "expected ':' or '{' after 'a', found '1'"),
    "a:": (1, 3, "expected a value for 'a', found the end of the file"),
    "a: }": (1, 4, "expected a value for 'a', found '}'"),
    "a: --1": (1, 4, "expected a value for 'a', found '-'"),
    "x {\n  y {\n": (3, 1, "expected a field name or '}' for the block of 2:5, "
                           "found the end of the file"),
    "x {\n >": (2, 2, "expected a field name or '}' for the block of 1:3, found '>'"),
    "}": (1, 1, "expected a field name, found '}'"),
    "1: 2": (1, 1, "expected a field name, found '1'"),
    "a: 1;;": (1, 6, "expected a field name, found ';'"),
    "a: [1": (1, 6, "expected ',' or ']' in the list of 'a', found the end of the file"),
    "a: [1 2]": (1, 7, "expected ',' or ']' in the list of 'a', found '2'"),
    "a: [1,]": (1, 7, "expected a value for 'a', found ']'"),
    "a: [[1]]": (1, 5, "expected a value for 'a', found '['"),
    'n: 1\r\na: "b\r\n': (2, 4, 'expected " to end this string on its line'),
    "a: 'b": (1, 4, "expected ' to end this string on its line"),
    "a: 'b\\": (1, 4, "expected ' to end this string on its line"),
    "a: 'b\\\n'": (1, 4, "expected ' to end this string on its line"),
    "\ufeff  ?": (1, 3, "expected a field name, found '?'"),
    "é: 1": (1, 1, "expected a field name, found 'é'"),
    "# é\n \udcff": (2, 2, "expected a field name, found '\\udcff'"),
    "a: 1\n\n\n   !": (4, 4, "expected a field name, found '!'"),
}  # fmt: skip


@pytest.mark.parametrize("text", ERRORS)
def test_error_says_where_and_what_was_expected(text: str) -> None:
    line, column, message = ERRORS[text]
    with pytest.raises(TextError) as caught:
        Document(encode(text), "net.prototxt")
    assert str(caught.value) == f"net.prototxt:{line}:{column}: {message}"
    assert (caught.value.line, caught.value.column) == (line, column)


def test_depth_is_bounded() -> None:
    deep = "a{" * 100 + "}" * 100
    assert Document(deep.encode()).fields
    with pytest.raises(TextError, match="1:202: expected blocks nested at most 100 deep"):
        Document(("a{" * 101 + "}" * 101).encode())
    for open_ in ("a{", "a<", "a:[{"):
        with pytest.raises(TextError, match="expected blocks nested at most 100 deep"):
            Document((open_ * 5000).encode())


def test_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "MAX_FIELDS", 10)
    assert len(Document(b"a:1 " * 10).fields) == 10
    with pytest.raises(TextError, match="1:41: expected at most 10 fields"):
        Document(b"a:1 " * 11)
    with pytest.raises(TextError, match="1:23: expected at most 10 fields"):
        Document(b"a: [" + b"1," * 11)
    monkeypatch.setattr(syntax, "MAX_BYTES", 10)
    with pytest.raises(TextError, match="expected a prototxt of at most 0 MB, found 11 bytes"):
        Document(b"#" * 11)


@pytest.mark.parametrize(
    ("text", "offset", "place"),
    [("", 0, (1, 1)), ("#b", 1, (1, 2)), ("#\n#", 2, (2, 1)), ("#\r\n#", 3, (2, 1)),
     ("#\n", 1, (1, 2)), ("#\n", 2, (2, 1)), ("\ufeff#b", 2, (1, 2)), ("#\ufeff\n#b", 4, (2, 2)),
     ("\ufeff", 1, (1, 1)), ("\n\n\n", 1, (2, 1))],
)  # fmt: skip
def test_place(text: str, offset: int, place: tuple) -> None:
    assert Document(encode(text)).place(offset) == place


def corpus() -> Iterator[Path]:
    """Published prototxt files, where the machine has them."""
    folder = os.environ.get("CAFFE_MERGE_CORPUS")
    yield from sorted(Path(folder).glob("*.prototxt")) if folder else ()


@pytest.mark.skipif(not os.environ.get("CAFFE_MERGE_CORPUS"), reason="CAFFE_MERGE_CORPUS not set")
def test_every_published_file_comes_back() -> None:
    files = list(corpus())
    assert len(files) > 30
    for path in files:
        if "brokenstring" not in path.name:
            assert tree(path.read_bytes()).fields, path


@pytest.mark.skipif(not os.environ.get("CAFFE_MERGE_CORPUS"), reason="CAFFE_MERGE_CORPUS not set")
def test_the_broken_published_file_is_told() -> None:
    (path,) = [path for path in corpus() if "brokenstring" in path.name]
    with pytest.raises(CaffeMergeError) as caught:
        Document(path.read_bytes(), path.name)
    assert str(caught.value) == f'{path.name}:1:7: expected " to end this string on its line'
