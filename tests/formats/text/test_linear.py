"""Every syntactic form takes time linear in its length: a series of doubling inputs for each."""

import gc
import signal
import time
from typing import Callable, Dict, List

import pytest

from caffe_merge.errors import CaffeMergeError, TextError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text import view as views
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.spelling import for_caffe
from caffe_merge.formats.text.syntax import Document, encode
from caffe_merge.formats.text.upgrade import upgrade
from caffe_merge.formats.text.view import View, extra_fields
from tests.speed import at_most

LONGEST = 1 << 18
ENOUGH = 0.25  # seconds: the longest of a series need not take more
GROWTH = 20.0  # times as long for 8 times as much: 8 is linear, 64 quadratic
SLACK = 0.05  # seconds
REPEATS = 12

RATIO = "layer { dropout_param { dropout_ratio: %s } }"
V0 = 'layers { layer { name: "a" type: "%s" %s } bottom: "x" top: "y" }'
FORMS: Dict[str, Callable[[int], str]] = {
    # numbers
    "digits": lambda n: RATIO % ("1" * n),
    "digits and a letter": lambda n: RATIO % ("1" * n + "x"),
    "decimals": lambda n: RATIO % ("." + "1" * n + "."),
    "zeros": lambda n: RATIO % ("0" * n + "x"),
    "exponent": lambda n: RATIO % ("1e" + "1" * n + "e"),
    "exponents": lambda n: RATIO % ("1" + "e+" * n),
    "dots": lambda n: RATIO % ("1" + "." * n),
    "hexadecimal": lambda n: f"input_dim: 0x{'f' * n}g",
    "octal": lambda n: f"input_dim: {'0' * n}8",
    "long integer": lambda n: f"input_dim: {'7' * n}",
    "blanks behind a minus": lambda n: RATIO % ("-" + " " * n + "x"),
    "comments behind a minus": lambda n: RATIO % ("-" + "# -\n \t" * n + "1"),
    "bool": lambda n: f"debug_info: {'0' * n}2",
    "enum": lambda n: f"layer {{ phase: {'T' * n} phase: {'1' * n} }}",
    # strings
    "string": lambda n: f'name: "{"é" * n}"',
    "bytes": lambda n: f'name: "{chr(0xDCE9) * n}"',
    "open string": lambda n: f'name: "{"a" * n}',
    "escapes": lambda n: f'name: "{chr(92)}n{chr(92) * 2 * n}"',
    "escapes by number": lambda n: f'name: "{chr(92)}ud83d{(chr(92) + "377") * n}"',
    "odd escapes": lambda n: f'name: "{(chr(92) + "p") * n}"',
    "NUL bytes": lambda n: f'# {chr(0) * n}\nname: "{chr(0) * n}"',
    "adjacent strings": lambda n: "name: " + '"a"' * n,
    "adjacent strings, the last open": lambda n: "name: " + '"a"' * n + '"',
    "adjacent strings and comments": lambda n: "name: " + '"a" # "\n' * n,
    # blanks, comments, separators
    "blanks": lambda n: " " * n + "name" + " " * n + ":" + " " * n + '"a"' + " " * n,
    "line ends": lambda n: "\r\n" * n,
    "a comment": lambda n: "a: 1 #" + "#" * n,
    "comments": lambda n: "# '\n" * n,
    "separators": lambda n: "a: 1;" * n,
    # fields, lists, blocks
    "fields on a line": lambda n: "input_dim: 1 " * n,
    "fields on lines": lambda n: "input_dim: 1 # c\n" * n,
    "list": lambda n: f"input_dim: [{'1, ' * n}1]",
    "list of blocks": lambda n: f"layer [{'{}, ' * n}{{}}]",
    "brackets": lambda n: "layer {" + 'name: ["a"] ' * n + "}",
    "open brackets": lambda n: "a [" + "[" * n,
    "open blocks": lambda n: "a {" * n,
    "closed blocks": lambda n: "a {}" * n + "}",
    "extension": lambda n: "[" + "a." * n + "]: 1",
    "open extensions": lambda n: ("[" + " " * 50) * n,
    "layers on a line": lambda n: 'layer { name: "a" } ' * n,
    "layers on lines": lambda n: '# c\nlayer {\n  name: "a" # c\n}\n' * n,
    # what the schema does not know
    "unknown fields": lambda n: "odd: 1 " * n,
    "unknown blocks": lambda n: "odd { a: 1 < > } " * n,
    "long name": lambda n: f"{'a' * n}: 1",
    "long names, nested": lambda n: ("a" * n + "{") * 50 + "}" * 50,
    "long name, many inside": lambda n: "a" * n + "{" + "b: 1 " * (n // 8) + "}",
    # old formats
    "V1 layers": lambda n: 'layers { name: "a" type: RELU blobs_lr: 1 weight_decay: 2 } ' * n,
    "V1 data": lambda n: 'layers { name: "a" type: DATA data_param { scale: 1 } }\n' * n,
    "V1 lists": lambda n: "layers { name: 'a' type: RELU " + "blobs_lr: 1 # c\n" * n + "}",
    "V0 layers": lambda n: (V0 % ("relu", "") + " ") * n,
    "V0 padding": lambda n: (V0 % ("padding", "pad: 1") + "\n") * n,
}  # fmt: skip


def work(text: str) -> None:
    """All that the reader does with a text, and edits of many fields."""
    document, _ = upgrade(for_caffe(Document(encode(text)))[0])
    view, message = View(document), NetParameter()
    view.read(document.fields, message)
    extra_fields(view.unknown)
    edits = Edits(document)
    old, new = LayerParameter(), LayerParameter(top=["t"])
    for number, field in enumerate(document.fields):
        for element, value in enumerate(field.values):
            document.place(value.start)
            if number % 2:
                edits.remove(field, element)
            elif field.name == "layer":
                edits.update(value, old, new)
                edits.insert_after(field, "layer", new, element)
    edits.text()


def seconds(text: str) -> float:
    start = time.process_time()
    message = ""
    try:
        work(text)
    except CaffeMergeError as error:
        message = str(error)
    assert len(message) < 500
    return time.process_time() - start


@pytest.mark.parametrize("form", FORMS)
def test_time_is_linear(form: str) -> None:
    def fail(*_: object) -> None:
        raise AssertionError(f"{form}: not done in a minute")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.alarm(int(at_most(60)))
    gc.freeze()  # what other tests have left, which each collection would look through
    try:
        series: List[float] = []
        length = 16
        while length <= LONGEST and (not series or series[-1] < ENOUGH):
            series.append(seconds(FORMS[form](length)))
            length *= 2
        assert len(series) > 3
        for _ in range(REPEATS):  # a machine's speed may have changed in between
            if series[-1] > GROWTH * series[-4] + SLACK:
                series[-4:] = [seconds(FORMS[form](length // 2**n)) for n in (4, 3, 2, 1)]
        assert series[-1] < GROWTH * series[-4] + SLACK, series
    finally:
        gc.unfreeze()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def test_the_names_of_unknown_fields_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its whole dotted name: a long name around many would be as many long names."""
    monkeypatch.setattr(views, "MAX_UNKNOWN", 1 << 20)
    document = Document(f"{'a' * 1000} {{ {'b: 1 ' * 2000} }}".encode())
    with pytest.raises(TextError, match="expected at most 1 MB of names of fields that BVLC Caffe"):
        View(document).read(document.fields, NetParameter())


def test_the_line_of_a_field_is_looked_for_from_the_field() -> None:
    """Not from the start of its line, which may be the whole file."""
    series = [0.0, 1e9]
    for _ in range(REPEATS):
        if series[1] > GROWTH * series[0] + SLACK:
            series = [_of_lines(number) for number in (25_000, 200_000)]
    assert series[1] < GROWTH * series[0] + SLACK


def _of_lines(number: int) -> float:
    """Seconds to look for the lines of so many fields."""
    document = Document(b"a: 1 " * number)
    edits = Edits(document)
    start = time.process_time()
    assert {edits.lines(field.start, field.end) for field in document.fields} == {None}
    return time.process_time() - start
