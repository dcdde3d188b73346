"""Old text in any style: the same layers, every comment kept, places in the user's own file."""

import random
from typing import Any, List

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.errors import CaffeMergeError, TextError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.chunks import comments
from caffe_merge.formats.text.syntax import Document, encode
from caffe_merge.formats.text.upgrade import upgrade
from caffe_merge.formats.text.upgrade.v0 import KINDS
from caffe_merge.formats.text.upgrade.v1 import SPECS, TYPES
from caffe_merge.formats.text.view import View
from caffe_merge.layers.state import State
from caffe_merge.net.loading import Net
from tests.formats.text.strategies import messages, styled
from tests.seeds import examples

V1 = type(NetParameter().layers.add())
V0 = type(V1().layer)
TRANSFORMED = ("DATA", "IMAGE_DATA", "WINDOW_DATA")


def read(text: str) -> List[Any]:
    """The layers that ``text`` has in the current format."""
    document, _ = upgrade(Document(encode(text), "x"))
    message = NetParameter()
    View(document).read(document.fields, message)
    assert not message.layers
    return list(message.layer)


def of_v1(old: Any) -> Any:
    """The layer that a V1 layer becomes, by its meaning."""
    new = LayerParameter()
    for field, value in old.ListFields():
        if field.name == "type":
            new.type = TYPES[field.enum_type.values_by_number[value].name]
        elif field.name in SPECS:
            for number, item in enumerate(value):
                while len(new.param) <= number:
                    new.param.add()
                setattr(new.param[number], SPECS[field.name], item)
        elif field.name != "layer":
            getattr(new, field.name).MergeFrom(value) if hasattr(value, "MergeFrom") else setattr(
                new, field.name, value
            )
    return new


def kind(layer: Any) -> str:
    """The V1 type of a layer."""
    numbers = layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    return str(numbers[layer.type].name)


def all_comments(text: str) -> List[str]:
    """The comments of ``text``, in no order."""
    return sorted(comments(Document(encode(text)), (0, len(text))))


def without_v0(layer: Any) -> Any:
    """A V1 layer that is one."""
    layer.ClearField("layer")
    return layer


v1_layers = messages(V1).map(without_v0).filter(lambda layer: kind(layer) not in TRANSFORMED)


@given(layers=st.lists(v1_layers, max_size=3), data=st.data())
@examples(120)
def test_v1(layers: List[Any], data: Any) -> None:
    text = data.draw(styled(NetParameter(layers=layers)))
    assert read(text) == [of_v1(layer) for layer in layers]
    upgraded = upgrade(Document(encode(text)))[0].text
    assert all_comments(upgraded) == all_comments(text)


@st.composite
def v0_layers(draw: Any) -> Any:
    """A V1 layer around a V0 one of a type that there is."""
    inner = draw(messages(V0))
    inner.type = draw(st.sampled_from(sorted(KINDS)))
    for name in ("new_height", "new_width"):  # at least 0 in every later format
        if getattr(inner, name) < 0:
            inner.ClearField(name)
    layer = draw(messages(V1, depth=1))
    layer.layer.CopyFrom(inner)
    return layer


@given(layers=st.lists(v0_layers(), min_size=1, max_size=3), data=st.data())
@examples(120)
def test_v0(layers: List[Any], data: Any) -> None:
    net = NetParameter(layers=layers)
    text = data.draw(styled(net))
    assert read(text) == read(text_format.MessageToString(net))
    upgraded = upgrade(Document(encode(text)))[0].text
    assert all_comments(upgraded) == all_comments(text)


PADDED = """layers { layer { name: "p" type: "padding" pad: 1 } bottom: "a" top: "q" }
layers {
  # the first
  layer {
    fork: 1
    type: "conv"
    name: "c"
    stride: 2
    other_fork {
      x: 1
    }
    kernelsize: 3
  }
  bottom: "q"
  more: 2
}
layers { layer { type: "relu" } bottom: BAD }
"""


def test_places_are_those_of_the_users_file() -> None:
    text = PADDED.replace("BAD", '"q"')
    document, _ = upgrade(Document((text[: text.rindex("layers")]).encode(), "x"))
    notes = Net(document, None, State()).notes
    assert [note.text.split(" is ")[0] for note in notes] == [
        "5:5: fork", "9:5: other_fork", "15:3: more"
    ]  # fmt: skip
    with pytest.raises(TextError, match=r"^x:17:41: expected text in quotes for 'bottom'"):
        upgrade(Document(PADDED.encode(), "x"))


TOKENS = (
    "layers", "layer", "{", "}", "<", ">", "[", "]", ":", ",", ";", "#", "# c\n", "\n", " ",
    "'", '"',
    "type", "name", "blobs_lr", "param", "pad", "conv", "padding", "CONVOLUTION", "1", "'conv'",
    "data_param", "scale", "transform_param", "\r\n", "-", "blob_share_mode", "\\", "bottom",
)  # fmt: skip
SEEDS = [
    PADDED.replace("BAD", '"q"'),
    "layers { type: DATA data_param { scale: 1 # s\n mirror: true } blobs_lr: 1 weight_decay: 2 }\n"
    "layers <type: CONVOLUTION blobs_lr: [1, 2] param: 'w' bottom: 'a' "
    "convolution_param { pad: 1 }>",
]


@pytest.mark.parametrize("seed", range(600))
def test_any_text_is_a_net_or_an_error(seed: int) -> None:
    rng = random.Random(seed)
    text = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 0, 1, 3, 30]))
        text = text[:start] + rng.choice(["", *TOKENS]) + text[end:]
    try:
        document, _ = upgrade(Document(encode(text), "x"))
        Net(document, None, State())
    except CaffeMergeError as error:
        message = str(error)
    else:
        message = "x:"
    assert message.startswith(("x:", "layer "))
