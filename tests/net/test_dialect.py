"""A text read as the user's own Caffe would read it, and what we make of that."""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import main, merge_bn
from caffe_merge.errors import CaffeMergeError, FileError, TextError, UsageError
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.net import dialect
from caffe_merge.notes import Note
from tests.net.fork_proto import NEW_FIELDS, TEXT, fork, needs_protoc, pair

pytestmark = needs_protoc


def load(folder: Path, text: str, proto: str) -> Any:
    """The net of ``text``, without weights."""
    path = folder / "net.prototxt"
    path.write_text(text)
    return caffe_merge.load(str(path), None, proto=proto)


def kinds(notes: List[Note]) -> List[str]:
    return [note.kind for note in notes]


# -- what that Caffe would not read -----------------------------------------------------------

WRONG: Dict[str, Tuple[str, str, str, str]] = {  # what is replaced by what, where, the error
    "a misspelt field": ("alpha", "alhpa", "alhpa", "a field of MyParameter in {}, found 'alhpa'"),
    "of a layer": ("my_param", "my_parm", "my_parm", "field of LayerParameter in {}, found 'my_pa"),
    "of another type": ("0.5", "true", "true", "expected a number for 'alpha', found 'true'"),
    "a name that no value has": ("HARD", "HRAD", "HRAD", "HRAD for 'mode', expected one of SOFT"),
    "a number that none has": ("HARD", "2", "2 point", "found 2 for 'mode', expected one of SOFT"),
    "twice": ("mode: HARD", "alpha: 1", "alpha: 1", "expected 'alpha' once in its block"),
    "no block": ("point { x: -1 }", "point: 3", "3 }", "expected a { block } for 'point'"),
    "a block": ("alpha: 0.5", "alpha { }", "{ } mode", "expected a number for 'alpha', found a"),
    "beyond its range": ("-1", "0x80000000", "0x80000000", "expected a 32-bit integer for 'x'"),
    "below its range": ("x: -1", "x: 1 y: -1", "-1", "a 64-bit integer of at least 0 for 'y'"),
    "one too few": ("x: -1", "y: 1", "{ y: 1 }", "'x' here, which Point in {} requires"),
    "in a group": ("x: -1", "x: 1 More { word: 3 }", "3 }", "text in quotes for 'word'"),
    "a group by its field": ("x: -1", "x: 1 more { }", "more", "of Point in {}, found 'more'"),
    "one that is ours only": ("my_param", "clip_param { } my_param", "clip_param",
                              "a field of LayerParameter in {}, found 'clip_param'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_error_says_where(tmp_path: Path, name: str) -> None:
    proto = fork(tmp_path, (r"  optional ClipParameter clip_param = 148;\n", ""))
    load(tmp_path, TEXT, proto)
    old, new, place, expected = WRONG[name]
    text = TEXT.replace(old, new)
    assert text != TEXT
    with pytest.raises(TextError) as caught:
        load(tmp_path, text, proto)
    assert expected.replace("{}", proto) in str(caught.value)
    line = text.splitlines()[caught.value.line - 1]
    assert line[caught.value.column - 1 :].startswith(place)


def test_lines_are_those_of_the_file_that_was_upgraded(tmp_path: Path) -> None:
    text = '# old\nlayers {\n  name: "a" type: RELU\n  relu_param { negative_slop: 1 }\n}\n'
    with pytest.raises(TextError, match=r"net\.prototxt:4:16: .* ReLUParameter .*'negative_slop'"):
        load(tmp_path, text, fork(tmp_path))


# -- what is known to it ----------------------------------------------------------------------


def test_its_fields_are_known_and_their_effect_is_not(tmp_path: Path) -> None:
    text = TEXT.replace("kernel_size: 3", "kernel_size: 3 twist: 2")
    twist = (r"(message ConvolutionParameter \{\n)", r"\1  optional int32 twist = 3;\n")
    number = ("repeated uint32 pad = 3;", "repeated uint32 pad = 300;")
    proto = fork(tmp_path, twist, number)
    assert kinds(caffe_merge.load(pair(tmp_path, text)[0], None).notes) == ["unknown-field"] * 2
    net = caffe_merge.load(*pair(tmp_path, text), proto=proto)
    assert net.notes == []
    (change,) = caffe_merge.merge(net).changes
    assert [layer.type for layer in net.layers] == ["Input", "Convolution", "Scale", "My"]
    assert "convolution_param.twist is a fork's field, whose effect is not known" in change.note


def test_any_package_and_file_name(tmp_path: Path) -> None:
    for package in ("", "package odd.one;"):
        proto = fork(tmp_path, ("package caffe;", package), name="theirs.proto")
        assert load(tmp_path, TEXT, proto).notes == []


def test_a_schema_that_is_imported(tmp_path: Path) -> None:
    fork(tmp_path)
    (tmp_path / "top.proto").write_text('import "fork.proto";')
    assert load(tmp_path, TEXT, str(tmp_path / "top.proto")).notes == []


@pytest.mark.parametrize(
    "text", ["", "message LayerParameter { }", "message NetParameter { }",
             "message NetParameter { optional string layer = 1; }"],
)  # fmt: skip
def test_no_schema_of_a_caffe(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.proto").write_text(text)
    with pytest.raises(
        FileError, match=r"m\.proto: expected the schema of a Caffe, with a message"
    ):
        load(tmp_path, TEXT, str(tmp_path / "m.proto"))


def test_maps_and_extensions(tmp_path: Path) -> None:
    fields = NEW_FIELDS.replace(
        "repeated Point", "map<string, Point> named = 9; extensions 20 to 30; repeated Point"
    )
    proto = fork(tmp_path, fields=fields + "extend MyParameter { optional int32 more = 20; }")
    entry = "named { key: 'a' value { x: 1 } } named { key: 'b' value { x: 2 } } [caffe.more]: 1"
    load(tmp_path, TEXT.replace("alpha: 0.5", entry), proto)
    with pytest.raises(TextError, match="'z'"):
        load(tmp_path, TEXT.replace("alpha: 0.5", entry.replace("x: 2", "z: 2")), proto)


# -- where both schemas would read the same text, and not the same ------------------------------

BNS = {
    "no block": ("", 0.25, "\n  batch_norm_param {\n    eps: 0.25\n  }"),
    "a block without it": (
        "batch_norm_param { use_global_stats: true }", 0.25,
        "batch_norm_param { use_global_stats: true eps: 0.25 }",
    ),
    "a block with it": ("batch_norm_param { eps: 0.5 }", 0.5, "batch_norm_param { eps: 0.5 }"),
}  # fmt: skip
EPS = (r"(message BatchNormParameter \{.*?)1e-0?5", r"\g<1>0.25")


@pytest.mark.parametrize("name", BNS)
def test_a_default_of_theirs_is_written_out(tmp_path: Path, name: str) -> None:
    block, eps, written = BNS[name]
    text = TEXT.replace('type: "BatchNorm"', f'type: "BatchNorm" {block}')
    files, proto = pair(tmp_path, text), fork(tmp_path, EPS)
    flags = ["--model", files[0], "--weights", files[1], "--proto", proto]
    merged = str(tmp_path / "net_merged.prototxt"), str(tmp_path / "net_merged.caffemodel")
    assert merge_bn([*flags, "--keep", "bn"]) == 0
    assert written in Path(merged[0]).read_text()
    assert merge_bn([*flags, "--force"]) == 0
    _, conv, norm, _ = caffe_merge.load(*files, proto=proto).layers
    factor = 1 / np.sqrt(norm.blobs[1].float64() + eps)
    folded = caffe_merge.load(*merged).layers[1].blobs[0].float64()
    expected = conv.blobs[0].float64() * factor.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(folded, expected, rtol=1e-6)


def test_a_default_is_told_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The original is run with it, too: read without the schema it is found to be another net."""
    files = pair(tmp_path)
    flags = ["--model", files[0], "--weights", files[1]]
    proto = ["--proto", fork(tmp_path, EPS)]
    assert main(["merge", *flags, *proto]) == 0
    message = "note: batch_norm_param.eps is written out in 1 layer: its default in"
    assert message in capsys.readouterr().out
    assert main(["validate", *flags, *proto]) == 0
    assert main(["validate", *flags]) == 1


def test_defaults_that_are_the_same_or_not_ours(tmp_path: Path) -> None:
    """BVLC's own schema changes nothing; an engine that BVLC has not is as unknown as ever."""
    assert not load(tmp_path, TEXT, fork(tmp_path)).rewritten
    engine = (
        r"(message ConvolutionParameter \{.*?enum Engine \{)(.*?default = )DEFAULT",
        r"\1 MINE = 7;\2MINE",
    )
    assert not load(tmp_path, TEXT, fork(tmp_path, engine)).rewritten
    prefetch = (r"(message DataParameter \{.*?prefetch = 10 \[default = )4", r"\g<1>0")
    assert not load(tmp_path, TEXT.replace("Input", "Data"), fork(tmp_path, prefetch)).rewritten
    pool = (r"(message PoolingParameter \{.*?default = )MAX", r"\1AVE")
    text = TEXT.replace('"My"', '"Pooling"')
    net = load(tmp_path, text, fork(tmp_path, pool))
    assert net.layers[3].param.pooling_param.pool == 1
    assert kinds(net.notes) == ["fork-default"]


def test_a_default_does_not_replace_a_value_of_theirs(tmp_path: Path) -> None:
    pool = (r"(enum PoolMethod \{)(.*?)", r"\1 ODD = 9;\2")
    default = (r"(message PoolingParameter \{.*?default = )MAX", r"\1AVE")
    block = "pooling_param { pool: ODD kernel_size: 2 }"
    text = TEXT + f'layer {{ name: "p" type: "Pooling" bottom: "my" top: "p" {block} }}\n'
    net = load(tmp_path, text, fork(tmp_path, pool, default))
    assert block in net.document.text
    assert net.layers[-1].extra == {"pooling_param.pool": "ODD"}


def test_numbers_of_enum_values(tmp_path: Path) -> None:
    """Their numbers are not ours: a value is what its name says."""
    swapped = (r"(enum PoolMethod \{).*?MAX = 0.*?AVE = 1", r"\1 MAX = 1; AVE = 0")
    text = TEXT + 'layer { name: "p" type: "Pooling" bottom: "my" top: "p" pooling_param '
    text += "{ pool: 1 kernel_size: 2 pad: 0 } }\n"
    same = load(tmp_path, text, fork(tmp_path))
    assert same.layers[-1].param.pooling_param.pool == 1
    assert not same.rewritten
    net = load(tmp_path, text, fork(tmp_path, swapped))
    assert net.layers[-1].param.pooling_param.pool == 0
    assert "pool: MAX kernel_size" in net.document.text
    assert net.rewritten


def test_types_of_v1_by_number(tmp_path: Path) -> None:
    """DeconvNet's and C3D's schema: `layers` of LayerParameter, with an enum of their own."""
    proto = tmp_path / "old.proto"
    proto.write_text(
        """message NetParameter { repeated LayerParameter layers = 2; repeated string input = 3;
             repeated int32 input_dim = 4; }
           message LayerParameter { repeated string bottom = 2; repeated string top = 3;
             optional string name = 4; optional LayerType type = 5;
             enum LayerType { RELU = 4; UNPOOLING = 18; MINE = 99; } }"""
    )
    text = 'input: "a" input_dim: [1, 2, 3, 4]\n' + "".join(
        f'layers {{ name: "{n}" type: {kind} bottom: "a" top: "a" }}\n'
        for n, kind in enumerate((4, "RELU", 18, 99, "MINE"))
    )
    types = [layer.type for layer in load(tmp_path, text, str(proto)).layers[1:]]
    assert types == ["ReLU", "ReLU", "Unpooling", "MINE", "MINE"]
    with pytest.raises(
        TextError, match=r"net\.prototxt:2:26: found 5 for .type., expected one of RELU"
    ):
        load(tmp_path, text.replace("type: 4", "type: 5"), str(proto))


# -- through the commands -----------------------------------------------------------------------


def test_what_their_caffe_would_not_read_of_the_merged_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A SegNet has no Scale: what cannot be folded should stay as it was."""
    proto = fork(tmp_path, (r"  optional ScaleParameter scale_param = 1420;\n", ""))
    text = TEXT.replace('bottom: "conv"\n  top: "my"', 'bottom: "pre"\n  top: "my"')
    text = text.replace('name: "bn"', 'name: "r" type: "ReLU" bottom: "conv" top: "pre" }\n'
                        'layer {\n  name: "bn"').replace(
        'type: "BatchNorm"\n  bottom: "conv"\n  top: "conv"',
        'type: "BatchNorm"\n  bottom: "pre"\n  top: "pre"')  # fmt: skip
    files = pair(tmp_path, text)
    flags = ["--model", files[0], "--weights", files[1], "--proto", proto]
    for command in ("plan", "merge"):
        assert main([command, *flags]) == 0
        output = capsys.readouterr().out
        assert "note: the merged text is not for the Caffe of" in output
        assert re.search(
            r"net_merged\.prototxt:\d+:\d+: expected a field of LayerParameter", output
        )
        assert "found 'scale_param'" in output
    line = int(re.findall(r"net_merged\.prototxt:(\d+):", output)[0])
    written = (tmp_path / "net_merged.prototxt").read_text().splitlines()
    assert written[line - 1].strip().startswith("scale_param")
    assert main(["plan", *flags, "--skip", "one-scale"]) == 0
    assert "not for the Caffe" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["merge", "plan", "validate", "inspect"])
def test_every_command_reads_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    files = pair(tmp_path, TEXT.replace("alpha", "alhpa"))
    flags = ["--model", files[0], "--weights", files[1]]
    if command == "validate":  # which asks first whether there is something to compare with
        flags += ["--output-model", files[0], "--output-weights", files[1]]
    assert main([command, *flags, "--proto", fork(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "net.prototxt:25:14: expected a field of MyParameter in" in err
    assert main([command, *flags, "--proto", str(tmp_path / "nobody")]) == 2
    assert "nobody: No such file" in capsys.readouterr().err


def test_deploy_with_it(tmp_path: Path) -> None:
    """The shape comes from crop_size, which the fork's own data layer has, too."""
    data = TEXT.replace('"Input"', '"Data"').replace(
        "input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } }",
        "transform_param { crop_size: 6 } my_param { }",
    )
    files = pair(tmp_path, data)
    proto = fork(tmp_path, EPS)
    assert merge_bn(["--model", files[0], "--weights", files[1], "--proto", proto, "--deploy"]) == 0
    net = caffe_merge.load(str(tmp_path / "net_merged.prototxt"), None, proto=proto)
    assert [layer.type for layer in net.layers] == ["Input", "Convolution", "My"]


def test_it_is_never_written_over(tmp_path: Path) -> None:
    files, proto = pair(tmp_path), fork(tmp_path)
    before = Path(proto).read_bytes()
    flags = ["--model", files[0], "--weights", files[1], "--proto", proto, "--force"]
    assert merge_bn([*flags, "--output-model", proto]) == 2
    assert merge_bn([*flags, "--report", proto]) == 2
    assert main(["plan", *flags[:-1], "--report", proto]) == 2
    net = caffe_merge.load(*files, proto=proto)
    with pytest.raises(UsageError, match="would overwrite the input"):
        caffe_merge.save(net, proto, str(tmp_path / "w.caffemodel"), force=True)
    assert Path(proto).read_bytes() == before


def test_the_report_names_it(tmp_path: Path) -> None:
    files, proto = pair(tmp_path), fork(tmp_path)
    report = tmp_path / "r.json"
    flags = ["--model", files[0], "--weights", files[1], "--report", str(report)]
    assert main(["plan", *flags, "--proto", proto]) == 0
    assert json.loads(report.read_text())["files"]["proto"] == proto
    report.unlink()
    assert main(["plan", *flags]) == 0
    assert "proto" not in json.loads(report.read_text())["files"]


def test_one_error_class_for_all(tmp_path: Path) -> None:
    path = tmp_path / "m.proto"
    path.write_text("message {")
    with pytest.raises(CaffeMergeError, match=r"m\.proto:1:9: "):
        load(tmp_path, TEXT, str(path))


@pytest.mark.parametrize("kind", ["BatchNormTorch", "BatchNormScale", "CuDNNBatchNorm"])
def test_forks_norms_have_the_defaults_of_their_block(kind: str) -> None:
    """Types that have their parameters in the block of another depend on its defaults too."""
    default = dialect._Default("batch_norm_param", "eps", 1e-3)
    assert dialect._lacks(LayerParameter(type=kind), default)
    assert not dialect._lacks(LayerParameter(type="BN"), default)
