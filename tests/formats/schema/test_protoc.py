"""The .proto file of a user: compiled where it can be, one line of error where it cannot."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional

import pytest

from caffe_merge.errors import FileError, TextError, UsageError
from caffe_merge.formats.schema import protoc
from tests.net.fork_proto import fork, needs_protoc


def names(path: Path) -> List[str]:
    """The messages of every file that is compiled for ``path``."""
    files = protoc.compiled(str(path))
    return [name for file in files for name in file.message_types_by_name]


@needs_protoc
@pytest.mark.parametrize("head", ["", 'syntax = "proto2";', 'syntax = "proto2"; package a.b;',
                                  'syntax = "proto3";'])  # fmt: skip
def test_with_and_without_syntax_and_package(tmp_path: Path, head: str) -> None:
    path = tmp_path / "odd name, with blanks.proto"
    path.write_text(head + "message M { repeated int32 x = 1; }")
    assert names(path) == ["M"]


@needs_protoc
def test_imports_beside_it_and_of_protobuf(tmp_path: Path) -> None:
    (tmp_path / "part.proto").write_text("message Part { optional int32 x = 1; }")
    path = tmp_path / "whole.proto"
    path.write_text(
        'import "part.proto"; import "google/protobuf/descriptor.proto";\n'
        "extend google.protobuf.FieldOptions { optional string unit = 50001; }\n"
        'message Whole { optional Part part = 1 [(unit) = "m"]; }\n'
    )
    actual = names(path)
    assert actual[-1] == "Whole"
    assert "Part" in actual


@needs_protoc
def test_the_default_pool_stays_empty(tmp_path: Path) -> None:
    from google.protobuf import descriptor_pool

    protoc.compiled(fork(tmp_path))
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter")


@needs_protoc
def test_two_of_one_name_are_two(tmp_path: Path) -> None:
    """Each has a pool of its own: what clashes is no error, and nothing is taken for the other."""
    path = tmp_path / "m.proto"
    for name in ("x", "y"):
        path.write_text(f"package caffe; message NetParameter {{ optional int32 {name} = 1; }}")
        message = protoc.compiled(str(path))[-1].message_types_by_name["NetParameter"]
        assert list(message.fields_by_name) == [name]


@needs_protoc
def test_modules_of_the_current_folder_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.proto").write_text("message M { }")
    for module in ("grpc_tools.py", "enum.py"):
        (tmp_path / module).write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    assert names(Path("m.proto")) == ["M"]


@needs_protoc
@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("message M {\n  optional int32 x;\n}", ":2:19: ", "Missing field number"),
        ("message M {\n  optional Nobody x = 1;\n}", ":2:12: ", '"Nobody" is not defined'),
        ('syntax = "proto2";\nimport "no.proto";', ":2:1: ", '"no.proto" was not found'),
        ("layer { name: 'x' }", ":1:1: ", "Expected top-level statement"),
        ("\0\1\2\x1b[31m", ":1:1: ", ""),
    ],
)
def test_what_does_not_compile(tmp_path: Path, text: str, where: str, expected: str) -> None:
    path = tmp_path / "m.proto"
    path.write_text(text)
    with pytest.raises(TextError) as caught:
        protoc.compiled(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}{where}")
    assert expected in message
    assert message.isprintable()


@needs_protoc
def test_an_error_in_an_import_is_told_there(tmp_path: Path) -> None:
    (tmp_path / "part.proto").write_text("message Part {\n optional int32 x = 0; }")
    path = tmp_path / "whole.proto"
    path.write_text('import "part.proto";')
    with pytest.raises(TextError, match=r"part\.proto:2:21: "):
        protoc.compiled(str(path))


@pytest.mark.parametrize("name", ["nobody.proto", "."])
def test_what_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileError, match=f"{name}: "):
        protoc.compiled(str(tmp_path / name))


def test_no_protoc_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_grpc_tools(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="pip install grpcio-tools, or put protoc on PATH"):
        protoc.command()


@needs_protoc
@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves where grpcio-tools is not installed; a relative PATH is no trap."""
    shim = tmp_path / "protoc"
    real = " ".join(protoc.command())
    shim.write_text(f'#!/bin/sh\necho ran >> "{tmp_path}/log"\nexec {real} "$@"\n')
    shim.chmod(0o755)
    (tmp_path / "m.proto").write_text("message M { }")
    hide_grpc_tools(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".", prepend=os.pathsep)
    assert names(tmp_path / "m.proto") == ["M"]
    assert (tmp_path / "log").read_text() == "ran\n"


def hide_grpc_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if grpcio-tools were not installed."""
    real = importlib.util.find_spec

    def find_spec(name: str, package: Optional[str] = None) -> object:
        return None if name == "grpc_tools" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


ODD = {
    "it took longer than 0.5 seconds": "import time; time.sleep(60)",
    "its exit status is 3": "import sys; sys.exit(3)",
    "it wrote no descriptors": "pass",
    "nonsense?[31m": "import sys; print('first'); print('nonsense\\x1b[31m'); sys.exit(1)",
    "xxx": "import sys; print('x' * 10**6); sys.exit(1)",
}


@pytest.mark.parametrize("expected", ODD)
def test_a_protoc_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: str
) -> None:
    monkeypatch.setattr(protoc, "command", lambda: [sys.executable, "-c", ODD[expected]])
    monkeypatch.setattr(protoc, "TIME_LIMIT", 0.5 if "longer" in expected else 60.0)
    path = tmp_path / "m.proto"
    path.write_text("message M { }")
    start = time.monotonic()
    with pytest.raises(FileError) as caught:
        protoc.compiled(str(path))
    assert time.monotonic() - start < 20
    assert str(caught.value).startswith(f"{path}: protoc cannot compile it: ")
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("wrote", [b"\xff", b"\x0a\x06\x0a\x01a\x1a\x01b"])
def test_a_protoc_that_writes_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrote: bytes
) -> None:
    code = f"open('descriptors', 'wb').write({wrote!r})"
    monkeypatch.setattr(protoc, "command", lambda: [sys.executable, "-c", code])
    path = tmp_path / "m.proto"
    path.write_text("message M { }")
    with pytest.raises(FileError, match="protoc cannot compile it: "):
        protoc.compiled(str(path))


def test_a_protoc_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protoc, "command", lambda: [str(tmp_path / "nobody")])
    path = tmp_path / "m.proto"
    path.write_text("message M { }")
    with pytest.raises(FileError, match="No such file"):
        protoc.compiled(str(path))


def test_nothing_of_it_is_imported_unless_asked_for(tmp_path: Path) -> None:
    text = tmp_path / "net.prototxt"
    text.write_text('layer { name: "x" type: "Input" top: "x" }')
    code = f"""
import sys, caffe_merge
caffe_merge.load({str(text)!r}, None)
names = "caffe_merge.net.dialect", "caffe_merge.formats.schema.protoc", "grpc_tools"
assert not {{*names}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
