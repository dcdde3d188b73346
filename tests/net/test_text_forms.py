"""Forms of the text: net-level inputs as layers, names without blanks; written, validated, told."""

from pathlib import Path
from typing import List

import pytest

import caffe_merge
from caffe_merge.formats.text.syntax import Document
from caffe_merge.net.text_forms import blobs_without_blanks, input_fields, input_layers
from caffe_merge.notes import Note
from tests.nets import load_pair, prototxt, seeded, write_pair

LAYER = 'layer { name: "t" type: "TanH" bottom: "a" top: "t" }\n'
INPUT = """layer {
  name: "a"
  type: "Input"
  top: "a"
  input_param {
    shape {
      dim: 1
      dim: 2
    }
  }
}
"""


@pytest.mark.parametrize(
    ("fields", "before"),
    [
        ('name: "n"\n# the input\ninput: "a"\ninput_shape { dim: 1 dim: 2 }\n',
         'name: "n"\n# the input\n'),
        ('input: "a"\ninput_shape {\n  dim: 1\n  dim: 2\n}\n', ""),
        ('input: ["a"]\ninput_shape: [{ dim: [1, 2] }]\n', ""),
    ],
)  # fmt: skip
def test_inputs_become_layers(fields: str, before: str) -> None:
    notes: List[Note] = []
    document = input_layers(Document((fields + LAYER).encode(), "p"), notes)
    assert document.text == before + INPUT + LAYER
    assert [note.text for note in notes] == ["the net's own inputs are Input layers now: 'a'"]


def test_two_inputs_and_a_name_that_is_taken() -> None:
    dims = " ".join(f"input_dim: {dim}" for dim in range(1, 9))
    text = f'input: "t" input: "a" {dims} ' + LAYER.replace('top: "t"', 'top: "u"')
    document = input_layers(Document(text.encode(), "p"), [])
    assert document.text.count("Input") == 2
    assert 'name: "t_2"' in document.text
    assert "dim: 8" in document.text
    assert "input_dim" not in document.text


@pytest.mark.parametrize("text", [LAYER, 'input: "a"\n' + LAYER])
def test_what_stays(text: str) -> None:
    document = Document(text.encode(), "p")
    assert input_fields(document, []) is document
    assert input_layers(document, []) is document
    assert blobs_without_blanks(document, []) is document


BACK = 'input: "a"\ninput_shape {\n  dim: 1\n  dim: 2\n}\n'


def test_layers_become_inputs_and_back() -> None:
    notes: List[Note] = []
    document = input_fields(
        Document(('name: "n"\n# the input\n' + INPUT + LAYER).encode(), "p"), notes
    )
    assert document.text == 'name: "n"\n# the input\n' + BACK + LAYER
    assert [note.text for note in notes] == ["Input layers are the net's own inputs now: 'a'"]
    assert input_layers(document, []).text == 'name: "n"\n# the input\n' + INPUT + LAYER


def test_several_tops_and_layers() -> None:
    """A shape for all tops is written for each; the second layer goes with its comment."""
    shape = "input_param { shape { dim: 1 dim: 2 } }"
    text = f'layer {{ name: "i" type: "Input" top: "a" top: "b" {shape} }}\n' + LAYER
    text += '# also\nlayer { name: "j" type: "Input" top: "c" input_param { shape { dim: 3 } } }\n'
    document = input_fields(Document(text.encode(), "p"), [])
    fields = ['input: "a"', 'input: "b"', 'input: "c"']
    assert document.text.splitlines()[:3] == fields
    assert document.text.count("input_shape") == 3
    assert document.text.endswith("dim: 3\n}\n" + LAYER)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type:", "include { phase: TEST } type:"),
        ("type:", "of_a_fork: 1 type:"),
        ("shape {", "shape { dim: 9 } shape {"),  # two for three tops
    ],
)
def test_an_input_layer_that_says_more_stays(old: str, new: str) -> None:
    text = INPUT.replace('top: "a"', 'top: "a" top: "b" top: "c"').replace(old, new, 1)
    document = Document((text + LAYER).encode(), "p")
    assert input_fields(document, []) is document


def test_a_merge_for_an_old_caffe(tmp_path: Path) -> None:
    body = "{ convolution_param { num_output: 4 kernel_size: 3 } }"
    text = prototxt("data 1 3 6 5", f"c: Convolution data -> c {body}", "s: Scale c -> c")
    pair = write_pair(tmp_path, text, seeded(text))
    files = tmp_path / "made.prototxt", tmp_path / "made.caffemodel"
    result = caffe_merge.convert(*pair, *files, target="caffe-2015")
    assert result.comparison.status == "passed"
    assert files[0].read_text().startswith('input: "data"\ninput_shape {')
    assert "Input" not in files[0].read_text()
    assert [layer.type for layer in load_pair(files).layers] == ["Input", "Convolution"]
    assert "target" not in [note.kind for note in result.report.notes]


def test_names_without_blanks() -> None:
    text = 'input: \'a b\' layer { bottom: "a b" top: "a_b" top: "c\\td" } # "a b"'
    notes: List[Note] = []
    document = blobs_without_blanks(Document(text.encode(), "p"), notes)
    expected = 'input: \'a_b_2\' layer { bottom: "a_b_2" top: "a_b" top: "c_d" } # "a b"'
    assert document.text == expected
    assert len(notes) == 2


def test_a_merge_has_them(tmp_path: Path) -> None:
    text = 'input: "a b" input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 5\n'
    text += 'layer { name: "c d" type: "Convolution" bottom: "a b" top: "c d" convolution_param '
    text += "{ num_output: 4 kernel_size: 3 } }\n"
    text += 'layer { name: "s" type: "Scale" bottom: "c d" top: "c d" }\n'
    pair = write_pair(tmp_path, text, seeded(text))
    files = tmp_path / "made.prototxt", tmp_path / "made.caffemodel"
    result = caffe_merge.convert(*pair, *files, target="ncnn")
    assert result.ok
    assert result.comparison.status == "passed"
    net = load_pair(files)
    assert [(layer.type, layer.name, list(layer.param.top)) for layer in net.layers] == [
        ("Input", "a_b", ["a_b"]), ("Convolution", "c_d", ["c_d"]),
    ]  # fmt: skip
    assert not net.layers[1].missing
    kinds = [note.kind for note in result.report.notes]
    assert kinds.count("target-form") == 4
    assert "target" not in kinds


def test_without_a_target_names_stay(tmp_path: Path) -> None:
    text = prototxt("data 1 3 6 5", "t: TanH data -> t").replace('"t"', '"t t"')
    pair = write_pair(tmp_path, text)
    files = tmp_path / "made.prototxt", tmp_path / "made.caffemodel"
    caffe_merge.convert(*pair, *files)
    assert '"t t"' in files[0].read_text()
