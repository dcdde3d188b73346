"""What Caffe's own reader stops at is read, told, and written so that Caffe loads it."""

from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import caffe_merge
from caffe_merge.command.cli import merge_bn
from caffe_merge.errors import TextError
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.text.spelling import for_caffe
from caffe_merge.formats.text.syntax import Document, encode
from caffe_merge.formats.text.view import View
from tests.formats.text.strategies import messages, styled
from tests.nets import write_pair
from tests.real_caffe import RealCaffe
from tests.seeds import examples

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }\n'
DROPOUT = (
    'layer { name: %s type: "Dropout" bottom: "x" top: "d" dropout_param { dropout_ratio: %s } }'
)


def dropout(name: str = '"d"', ratio: str = "0.5") -> str:
    """A net with these two values."""
    return INPUT + DROPOUT % (name, ratio)


CASES = {
    "\ufeff" + INPUT: INPUT,
    f"# \0\n{INPUT}": f"#  \n{INPUT}",
    dropout(r'"E:\Project\new"'): dropout(r'"E:\\Project\new"'),
    dropout(r'"\x"'): dropout(r'"\\x"'),
    dropout(r"'\8\u12'"): dropout(r"'\\8\\u12'"),
    dropout(r'"\U0000004"'): dropout(r'"\\U0000004"'),
    dropout(r'"\U00200000"'): dropout(r'"\\U00200000"'),
    dropout(r'"\X41\X4g"'): dropout(r'"\x41\x4g"'),
    dropout(r'"\ " # \p' + "\n '\\p'"): dropout(r'"\\ " # \p' + "\n '\\\\p'"),
    dropout('"\0\\\0"'): dropout(r'"\000\\\000"'),
    dropout('["d"]'): dropout(' "d" '),
    dropout(ratio="[ # [\n 0.25 # ]\n ]"): dropout(ratio="  # [\n 0.25 # ]\n  "),
    INPUT.replace("input_param {", "input_param [{").replace("} } }", "} }] }"): INPUT.replace(
        "input_param {", "input_param  {"
    ).replace("} } }", "} }  }"),
    dropout(ratio="00.5"): dropout(ratio="0.5"),
    dropout(ratio="- 08"): dropout(ratio="-8"),
    dropout(ratio="0x10"): dropout(ratio="16"),
    dropout(ratio="00"): dropout(ratio="0"),
    dropout(ratio="-010"): dropout(ratio="-10"),
    dropout(ratio="inff"): dropout(ratio="inf"),
    dropout(ratio="-01e300"): dropout(ratio="-inf"),
}


def read(document: Document) -> NetParameter:
    """What ``document`` says."""
    message = NetParameter()
    View(document).read(document.fields, message)
    return message


@pytest.mark.parametrize("text", CASES)
def test_what_caffe_refuses_it_then_loads(text: str, real_caffe: RealCaffe) -> None:
    document = Document(encode(text))
    spelled, message = for_caffe(document)
    assert spelled.text == CASES[text]
    assert message is not None
    assert read(spelled) == read(document)
    assert for_caffe(spelled) == (spelled, None)
    assert "parse" in real_caffe.error(text)
    if "inf" not in text and "-" not in text and "16" not in spelled.text:  # no ratios
        assert real_caffe.error(spelled.text) == ""


FINE = [
    dropout(r'"\101\x41\u0041\U00000041\?\0\400"'),
    dropout(r'"\ud83d\ude00"'),
    dropout(ratio="1.f"),
    dropout(ratio="1e-5F"),
    INPUT.replace("dim: 1 dim: 2", "dim: [0x1, 02]"),
    f"layer [{INPUT[6:].strip()}]",
    f"# E:\\Project \\x ['\n{INPUT}",
    INPUT + "dim: [08] unknown { a: [0x1] }",
]


@pytest.mark.parametrize("text", FINE)
def test_what_caffe_takes_stays(text: str, real_caffe: RealCaffe) -> None:
    document = Document(encode(text))
    assert for_caffe(document) == (document, None)
    assert "unknown" in text or real_caffe.error(text) == ""


ODD = [
    "\ufeff",
    "\0",
    "\\",
    "x",
    "U",
    "[",
    "]",
    '"',
    "'",
    "0",
    "9",
    "#",
    "\n",
    "a",
    "name:",
    "inff",
]


@examples(120)
@given(
    messages(NetParameter).flatmap(styled), st.lists(st.sampled_from(ODD)).map("".join), st.data()
)
def test_the_meaning_stays(text: str, odd: str, data: Any) -> None:
    """Of any text that is read, with something odd in it anywhere."""
    at = data.draw(st.integers(0, len(text)))
    try:
        document = Document(encode(text[:at] + odd + text[at:]))
        meant = read(document)
    except TextError:
        return
    spelled, _ = for_caffe(document)
    assert read(spelled).SerializeToString() == meant.SerializeToString()
    assert for_caffe(spelled) == (spelled, None)


def test_the_note_and_places_are_of_the_users_file(tmp_path: Path) -> None:
    odd = 'layer { name: "l" nonsense: 1 type: 5 bottom: "x" top: "y" }'
    text = "\ufeffname: 'a\\p\\q'\n" + INPUT + odd
    with pytest.raises(TextError, match=r"net.prototxt:3:37: expected text in quotes"):
        caffe_merge.load(str(write_pair(tmp_path, text, {})[0]), None)
    prototxt, _ = write_pair(tmp_path, text.replace("type: 5", 'type: "TanH"'), {})
    notes = caffe_merge.load(str(prototxt), None).notes
    assert [(note.kind, note.layer) for note in notes] == [
        ("spelling", ""), ("unknown-field", "l"),
    ]  # fmt: skip
    assert notes[0].text == (
        "Caffe cannot read this text as it is (1 byte order mark, 2 escapes, the first at 1:1); "
        "written so that it can"
    )
    assert notes[1].text.startswith("3:19: nonsense ")


MERGED = """\ufefflayer { name: "x" type: "Input" top: "x"
  input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }
layer { name: "E:\\conv" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: [4] kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "b" }
"""


def test_a_merge_is_validated_in_real_caffe(
    tmp_path: Path, real_caffe: RealCaffe, capsys: pytest.CaptureFixture
) -> None:
    random = np.random.default_rng(1)
    blobs = {
        "E:\\conv": [random.standard_normal((4, 3, 3, 3)), random.standard_normal(4)],
        "bn": [random.standard_normal(4), 1 + random.random(4), np.ones(1)],
    }
    prototxt, weights = write_pair(tmp_path, MERGED, blobs)
    arguments: Tuple[str, ...] = ("--model", str(prototxt), "--weights", str(weights))
    assert merge_bn([*arguments, "--validate", "pycaffe"]) == 0
    assert "note: Caffe cannot read this text as it is (1 byte order mark, " in (
        capsys.readouterr().out
    )
    assert real_caffe.error((tmp_path / "net_merged.prototxt").read_text()) == ""
