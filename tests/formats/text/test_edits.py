"""Edits: what changed is changed in the file's own style, everything else is the same bytes."""

from typing import Any, Callable, Dict, Optional, Tuple

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.syntax import Document, encode
from caffe_merge.formats.text.view import View
from tests.formats.text.strategies import messages, styled
from tests.seeds import examples

Change = Callable[[Any], None]


def read(text: str) -> Tuple[Document, NetParameter]:
    """The tree and the view of ``text``."""
    document, message = Document(encode(text)), NetParameter()
    View(document).read(document.fields, message)
    return document, message


def edited(text: str, changes: Dict[str, Optional[Change]]) -> str:
    """``text`` with ``changes`` made, by layer name: a function that changes it, None removes it.

    What is written must say what the changed messages say.
    """
    document, old = read(text)
    edits = Edits(document)
    layers = iter(old.layer)
    meant = NetParameter()
    for field in document.fields:
        for element, value in enumerate(field.values if field.name == "layer" else ()):
            layer = next(layers)
            if layer.name in changes:
                change = changes[layer.name]
                if change is None:
                    edits.remove(field, element)
                    continue
                new = LayerParameter()
                new.CopyFrom(layer)
                change(new)
                edits.update(value, layer, new)
                layer = new
            meant.layer.add().CopyFrom(layer)
    written = edits.text()
    assert list(read(written)[1].layer) == list(meant.layer)
    return written


def to(text: str, clear: Tuple[str, ...] = ()) -> Change:
    """The change that clears some fields, then merges what ``text`` says."""

    def change(layer: Any) -> None:
        for name in clear:
            layer.ClearField(name)
        text_format.Merge(text, layer)

    return change


def top(name: str) -> Change:
    """The change of the first top to ``name``."""
    return lambda layer: layer.top.__setitem__(0, name)


def biased(layer: Any) -> None:
    """The change that a fold makes to a convolution without bias."""
    layer.convolution_param.bias_term = True


CONV = """name: "n"  # the net
layer {
  name: "c"   # a conv
  type: "Convolution"
  bottom: "x"
  top: "c"
  convolution_param {
    num_output: 8  # eight
    bias_term: false # none
    kernel_size: 3
  }
}
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_in_place(newline: str) -> None:
    def change(layer: Any) -> None:
        top("bn")(layer)
        biased(layer)

    text = CONV.replace("\n", newline)
    expected = text.replace('top: "c"', 'top: "bn"').replace("bias_term: false", "bias_term: true")
    assert edited(text, {"c": change}) == expected


INSERTED = {
    "behind an end-of-line comment": (
        "layer {\n  name: 'c'\n  convolution_param {\n    num_output: 8  # eight\n"
        "    kernel_size: 3\n  }\n}\n",
        "    num_output: 8  # eight\n    bias_term: true\n    kernel_size: 3\n",
    ),
    "CRLF": (
        "layer {\r\n  name: 'c'\r\n  convolution_param {\r\n    num_output: 8 # x\r\n  }\r\n}\r\n",
        "    num_output: 8 # x\r\n    bias_term: true\r\n  }\r\n",
    ),
    "one LF among CRLF": (
        "layer {\r\nname: 'c'\r\nconvolution_param {\r\nnum_output: 8\nkernel_size: 3\r\n}\r\n}",
        "num_output: 8\r\nbias_term: true\nkernel_size: 3\r\n",
    ),
    "one CRLF among LF": (
        "layer {\nname: 'c'\nconvolution_param {\nnum_output: 8\r\nkernel_size: 3\n}\n}\n",
        "num_output: 8\nbias_term: true\r\nkernel_size: 3\n",
    ),
    "tabs": (
        "layer {\n\tname: 'c'\n\tconvolution_param {\n\t\tnum_output: 8\n\t}\n}",
        "\t\tnum_output: 8\n\t\tbias_term: true\n\t}\n}",
    ),
    "one line": (
        "layer { name: 'c' convolution_param { num_output: 8 kernel_size: 3 } }",
        "{ num_output: 8 bias_term: true kernel_size: 3 }",
    ),
    "one line without gaps": (
        "layer{name:'c'convolution_param{num_output:8 engine:CAFFE}}",
        "{num_output:8 bias_term: true engine:CAFFE}",
    ),
    "separators": (
        "layer{name:'c',convolution_param:<num_output:8,kernel_size:3>}",
        "<num_output:8, bias_term: true kernel_size:3>",
    ),
    "in front": (
        "layer {\n  name: 'c'\n  convolution_param {\n    # k\n    kernel_size: 3\n  }\n}\n",
        "    # k\n    bias_term: true\n    kernel_size: 3\n",
    ),
    "in front on one line": (
        "layer { name: 'c' convolution_param {kernel_size: 3} }",
        "{bias_term: true kernel_size: 3}",
    ),
    "empty block": (
        "layer { name: 'c' convolution_param {} }",
        "convolution_param { bias_term: true } }",
    ),
    "block with a comment": (
        "layer { name: 'c' convolution_param { # none\n } }",
        "convolution_param { bias_term: true # none\n } }",
    ),
    "block of several lines, in the file's own indent": (
        "layer {\n    name: 'c'\n}\n",
        "    name: 'c'\n    convolution_param {\n        bias_term: true\n    }\n}\n",
    ),
    "no block on one line": (
        "layer { name: 'c' } # end",
        "layer { name: 'c' convolution_param { bias_term: true } } # end",
    ),
    "closer on the anchor's line": (
        "layer {\n  name: 'c'\n  convolution_param {\n    num_output: 8 }\n}\n",
        "    num_output: 8 bias_term: true }\n",
    ),
}


@pytest.mark.parametrize("case", INSERTED)
def test_insert_bias_term(case: str) -> None:
    text, expected = INSERTED[case]
    written = edited(text, {"c": biased})
    assert expected in written
    # Nothing but the new words was added, nothing taken away.
    words = ["bias_term:", "true"] + ["convolution_param", "{", "}"] * ("param" not in text)
    assert sorted("".join([*text.split(), *words])) == sorted("".join(written.split()))


QUOTES = {
    'layer{name:"c" top:"t"}': 'layer{name:"c" type: "T" top:"a\'b"}',
    "layer{name:'c' top:'t'}": "layer{name:'c' type: 'T' top:'a\\'b'}",
    "layer{name:'c' top:\"t\"}": 'layer{name:\'c\' type: "T" top:"a\'b"}',
    "layer{name:'c' top:'t' 'u' \"v\"}": "layer{name:'c' type: 'T' top:'a\\'b'}",
}


@pytest.mark.parametrize("text", QUOTES)
def test_quotes_are_those_that_are_there(text: str) -> None:
    def change(layer: Any) -> None:
        layer.top[0], layer.type = "a'b", "T"

    assert edited(text, {"c": change}) == QUOTES[text]


LAYERS = """# at the top of the file

# ours
layer { name: "a" }

# of b
# more of b
layer {
  # in b
  name: "b"
}  # behind b

layer { name: "c" }
layer { name: "d" } # d

# the end
"""
REMOVED = {
    "a": LAYERS.replace('# ours\nlayer { name: "a" }\n\n', ""),
    "b": LAYERS[: LAYERS.index("# of b")] + LAYERS[LAYERS.index('layer { name: "c"') :],
    "c": LAYERS.replace('layer { name: "c" }\n', ""),
    "d": LAYERS.replace('layer { name: "d" } # d\n', ""),
    "cd": LAYERS.replace('layer { name: "c" }\nlayer { name: "d" } # d\n\n', ""),
    "abcd": "# at the top of the file\n\n# the end\n",
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("names", REMOVED)
def test_a_removed_layer_takes_its_own_comments_and_one_blank_line(
    names: str, newline: str
) -> None:
    text, expected = (t.replace("\n", newline) for t in (LAYERS, REMOVED[names]))
    assert edited(text, dict.fromkeys(names)) == expected


A, B, C = "layer{name:'a'}", "layer{name:'b'}", "layer{name:'c'}"
REMOVED_INLINE = [
    (f"{A} {B} {C} ", "a", f" {B} {C} "),
    (f"{A} {B} {C} ", "c", f"{A} {B} "),
    (f"{A}{B}{C}", "b", f"{A}{C}"),
    (f"{A};{B},{C}", "b", f"{A};{C}"),
    (f"{A}\n{B}", "b", f"{A}\n"),
    (f"{A}\n\n{B}", "a", B),
    (f"\ufeff{A}\n{B}", "a", f"\ufeff{B}"),
    (f"# head\n{A}\n{B}", "a", f"# head\n{B}"),
    (f"name: 'n' {A} {B}", "ab", "name: 'n'"),
    (A, "a", ""),
    ("layer: [{name:'a'}, {name:'b'}, {name:'c'}]", "a", "layer: [{name:'b'}, {name:'c'}]"),
    ("layer: [{name:'a'}, {name:'b'}, {name:'c'}]", "b", "layer: [{name:'a'}, {name:'c'}]"),
    ("layer: [{name:'a'}, {name:'b'}, {name:'c'}]", "c", "layer: [{name:'a'}, {name:'b'}]"),
    ("layer: [{name:'a'}, {name:'b'}, {name:'c'}]", "bc", "layer: [{name:'a'}]"),
    ("layer: [{name:'a'}, {name:'b'}, {name:'c'}]", "ac", "layer: [{name:'b'}]"),
    ("layer: [{name:'a'}, {name:'b'}, {name:'c'}]", "ab", "layer: [{name:'c'}]"),
    ("layer: [{name:'a'}, {name:'b'}, {name:'c'}]", "abc", ""),
    ("layer [{name:'a'} # a, or not\n,\n{name:'b'}]", "a", "layer [{name:'b'}]"),
]


@pytest.mark.parametrize(("text", "names", "expected"), REMOVED_INLINE)
def test_remove_where_a_layer_is_not_alone_on_its_lines(
    text: str, names: str, expected: str
) -> None:
    assert edited(text, dict.fromkeys(names)) == expected


CHANGES = [
    ("top: 'a' top: 'b' x: 1", to("top: 'c'", ("top",)), "top: 'c' x: 1"),
    ("top: 'a'\n  top: 'b' # b\n  x: 1", to("", ("top",)), "x: 1"),
    ("top: 'a' x: 1", to("top: 'b'"), "top: 'a' top: 'b' x: 1"),
    ("top: ['a', 'b']", to("top: ['c', 'd']", ("top",)), "top: ['c', 'd']"),
    ("top: ['a', 'b']", to("top: 'c'", ("top",)), "top: 'c'"),
    ("top: [] x: 1", to("top: 'c'"), "top: [] top: 'c' x: 1"),
    ("loss_weight: [1, 2.f]", to("loss_weight: [1, 3]", ("loss_weight",)), "loss_weight: [1, 3]"),
    ("phase: 0", to("phase: TEST"), "phase: TEST"),
    ("phase:TRAIN", to("", ("phase",)), ""),
    ("a: 1 phase: TRAIN b{}c: 2", to("", ("phase",)), "a: 1 b{}c: 2"),
    ("a: 1 phase: TRAIN\tb: 2", to("", ("phase",)), "a: 1\tb: 2"),
    ("a: 1 top:'t'b: 2", to("", ("top",)), "a: 1 b: 2"),
    ("a: 1, top:'t', b: 2", to("", ("top",)), "a: 1, b: 2"),
    ("param { lr_mult: 1 } param { lr_mult: 2 }", to("param { }", ("param",)), "param { }"),
    ("relu_param { }", to("relu_param { negative_slope: 0.1 }"), "{ negative_slope: 0.1 }"),
    ("relu_param { engine: NEW }", to("relu_param { engine: CAFFE }"), "{ engine: CAFFE }"),
]  # fmt: skip


@pytest.mark.parametrize(("inside", "change", "expected"), CHANGES)
def test_fields(inside: str, change: Change, expected: str) -> None:
    for text in (f"layer {{ name: 'c' {inside} }}", f"layer {{\n  name: 'c'\n  {inside}\n}}\n"):
        assert " ".join(expected.split()) in " ".join(edited(text, {"c": change}).split())
    assert edited(text, {}) == text


def test_a_new_layer_is_written_in_the_files_style() -> None:
    new = LayerParameter(name="s", type="Scale", bottom=["c"])
    new.scale_param.bias_term = True
    shown = "layer {\r\n\tname: 's'\r\n\ttype: 'Scale'\r\n\tbottom: 'c'\r\n\tscale_param {"
    shown += "\r\n\t\tbias_term: true\r\n\t}\r\n}"
    for front in ("\ufeff", "", "# c\r\n"):
        text = front + "layer {\r\n\tname: 'c'\r\n} # c\r\nlayer { name: 'd' }"
        document, _ = read(text)
        for place, at in ((0, text.index("\r\nlayer { n")), (1, len(text))):
            edits = Edits(document)
            edits.insert_after(document.fields[place], "layer", new)
            assert edits.text() == text[:at] + "\r\n" + shown + text[at:]
        edits = Edits(document)
        edits.insert_after(None, "layer", new)
        bom = len(front) if front == "\ufeff" else 0
        assert edits.text() == text[:bom] + shown + "\r\n" + text[bom:]


@examples(120)
@given(
    messages(LayerParameter).flatmap(lambda m: st.tuples(st.just(m), styled(m))),
    messages(LayerParameter),
    st.booleans(),
)
def test_any_change_reads_back(
    case: Tuple[LayerParameter, str], new: LayerParameter, merged: bool
) -> None:
    """In any style: the text of ``old`` with the change to ``new`` made says ``new``."""
    old, text = case
    if merged:  # a change of some fields, not of nearly all
        base = LayerParameter()
        base.CopyFrom(old)
        base.MergeFrom(new)
        new = base
    document = Document(encode("layer {" + text + "}"))
    (block,) = document.fields[0].values
    edits = Edits(document)
    edits.update(block, old, new)
    assert list(read(edits.text())[1].layer) == [new]


@examples(120)
@given(
    st.lists(messages(LayerParameter, depth=1), min_size=1, max_size=5).flatmap(
        lambda layers: st.tuples(
            styled(NetParameter(layer=layers)), st.sets(st.sampled_from(range(len(layers))))
        )
    )
)
def test_any_removal_reads_back(case: Tuple[str, "set[int]"]) -> None:
    """In any style: without some of its layers, the text says the others."""
    text, removed = case
    document, message = read(text)
    edits = Edits(document)
    places = [(field, n) for field in document.fields for n in range(len(field.values))]
    for number in removed:
        edits.remove(*places[number])
    kept = [layer for n, layer in enumerate(message.layer) if n not in removed]
    assert list(read(edits.text())[1].layer) == kept


@examples(120)
@given(st.lists(st.sampled_from("kr"), min_size=1, max_size=5), st.data())
def test_layers_between_those_of_a_list(fates: "list[str]", data: Any) -> None:
    """In lists too: kept and removed ones, and new ones behind any that is kept."""
    blocks = [f"{{ name: '{number}' }}" for number in range(len(fates))]
    joint = data.draw(st.sampled_from([",", " , # c\n ", "\n,\n"]))
    document, message = read(f"layer [ {joint.join(blocks)} ] # end\nname: 'n'")
    (field, _) = document.fields
    edits = Edits(document)
    meant = []
    for number, fate in enumerate(fates):
        if fate == "r":
            edits.remove(field, number)
            continue
        meant.append(message.layer[number])
        for name in data.draw(st.sampled_from(["", "x", "xy"])):
            meant.append(LayerParameter(name=name, type="TanH"))
            edits.insert_after(field, "layer", meant[-1], number)
    assert list(read(edits.text())[1].layer) == meant
