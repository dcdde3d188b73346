"""Bad files and bad places: one line on stderr, status 2, nothing left behind, no time lost."""

import errno
import gc
import gzip
import io
import lzma
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple, Union

import numpy as np
import pytest

from caffe_merge.command import cli
from caffe_merge.files import replacement
from tests.nets import caffemodel, write_pair
from tests.speed import at_most

TEXT = """name: "bad"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 1 group: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 5 } }
"""
RANDOM = np.random.default_rng(0)
BLOBS = {
    "conv": [RANDOM.standard_normal((4, 3, 3, 3)), RANDOM.standard_normal(4)],
    "bn": [RANDOM.standard_normal(4), RANDOM.uniform(0.5, 2, 4), np.ones(1)],
    "scale": [RANDOM.uniform(0.5, 2, 4), RANDOM.standard_normal(4)],
    "fc": [RANDOM.standard_normal((5, 256)), RANDOM.standard_normal(5)],
}
MODEL = caffemodel(BLOBS)
Run = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> Run:
    """Runs merge_bn.py; checks that it refuses in good order, and gives the one line it says."""

    def run(*flags: Union[str, Path], status: int = 2) -> str:
        before = snapshot(tmp_path)
        gc.collect()
        gc.freeze()  # what the tests before this one left is no work of the command's
        start = time.process_time()
        assert cli.merge_bn([str(flag) for flag in flags]) == status
        assert time.process_time() - start < at_most(8)
        gc.unfreeze()
        out, err = capsys.readouterr()
        assert out == ""
        return check_line(err, before, tmp_path)

    return run


def snapshot(folder: Path) -> Dict[str, bytes]:
    """Every file below ``folder`` with its contents."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def check_line(err: str, before: Dict[str, bytes], folder: Path) -> str:
    """One line of error, no traceback, no bug, and not a file more, less or changed."""
    assert err.count("\n") == 1, err
    assert err.startswith("merge_bn.py: error: ")
    for word in ("Traceback", "internal error", "Error:"):
        assert word not in err
    assert snapshot(folder) == before
    return err[len("merge_bn.py: error: ") : -1]


def flags_of(pair: Tuple[Path, Path]) -> List[str]:
    """The pair as flags."""
    return ["--model", str(pair[0]), "--weights", str(pair[1])]


def zipped() -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("net.caffemodel", MODEL)
    return out.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
HTML = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8
UTF16 = "\ufeff".encode("utf-16-le") + TEXT.encode("utf-16-le")


def changed(layer: str, blob: int, value: float) -> bytes:
    """MODEL with one value replaced."""
    blobs = {name: [array.copy() for array in arrays] for name, arrays in BLOBS.items()}
    blobs[layer][blob].flat[-1] = value
    return caffemodel(blobs)


def flipped(at: int) -> bytes:
    """MODEL with a byte inverted."""
    return MODEL[:at] + bytes([MODEL[at] ^ 0xFF]) + MODEL[at + 1 :]


WEIGHTS = {
    "empty": (b"", "expected a caffemodel, found an empty file"),
    "truncated": (MODEL[:-1], "not a whole caffemodel: byte "),
    "truncated early": (MODEL[:100], "not a whole caffemodel: byte 0: field 100 wants"),
    "flipped tag": (flipped(0), "not a whole caffemodel: byte "),
    "flipped length": (flipped(2), "not a whole caffemodel: byte "),
    "text": (TEXT.encode(), "found text; is this the prototxt?"),
    "text with CRLF": (TEXT.replace("\n", "\r\n").encode(), "found text; is this the prototxt?"),
    "HTML": (HTML, "found a web page"),
    "LFS pointer": (LFS, "found a Git LFS pointer: fetch the file itself with `git lfs pull`"),
    "HDF5": (HDF5, "HDF5"),
    "zip": (zipped(), "found an archive: unpack it first"),
    "gzip": (gzip.compress(MODEL), "found an archive: unpack it first"),
    "UTF-16": (UTF16, "found UTF-16 text"),
    "zeros": (bytes(4096), "not a whole caffemodel: byte 0: expected a field, found number 0"),
    "noise": (RANDOM.bytes(4096), "not a whole caffemodel"),
    "of another net": (
        caffemodel({"conv": [np.ones((4, 3, 5, 5)), np.ones(4)]}),
        "layer 'conv', blob 0: expected shape (4, 3, 3, 3), found (4, 3, 5, 5)",
    ),
    "NaN where it is folded": (changed("conv", 0, np.nan), "layer 'conv', blob 0: expected finite"),
    "NaN where it stays": (changed("fc", 0, np.nan), "layer 'fc', blob 0: expected finite"),
    "infinite bias": (changed("fc", 1, -np.inf), "layer 'fc', blob 1: expected finite"),
    "infinite mean": (changed("bn", 0, np.inf), "layer 'bn', blob 0: expected finite"),
    "NaN factor": (changed("bn", 2, np.nan), "layer 'bn', blob 2: expected finite"),
    "negative variance": (changed("bn", 1, -1.0), "layer 'bn', blob 1: expected "),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case: str, tmp_path: Path, refused: Run) -> None:
    model, message = WEIGHTS[case]
    pair = write_pair(tmp_path, TEXT.encode(), model)
    line = refused(*flags_of(pair))
    assert line.startswith((f"{pair[1]}: ", "layer '"))
    assert message in line


def replaced(old: str, new: str) -> bytes:
    """TEXT with something replaced."""
    assert old in TEXT
    return TEXT.replace(old, new).encode()


DIMS = "dim: 1 dim: 3 dim: 8 dim: 8"
TEXTS = {
    "empty": (b"", ": no layers in it: not the text of a net"),
    "truncated": (TEXT[:-3].encode(), ":8:40: expected a field name or '}' for the block of 7:7"),
    "weights": (MODEL, ":1:1: expected a prototxt, found binary data; is this the caffemodel?"),
    "HTML": (HTML, ":1:1: expected a prototxt, found a web page"),
    "LFS pointer": (LFS, ":1:1: expected a prototxt, found a Git LFS pointer"),
    "HDF5": (HDF5, ":1:1: expected a prototxt, found binary data"),
    "zip": (zipped(), ":1:1: expected a prototxt, found an archive: unpack it first"),
    "UTF-16": (UTF16, ":1:1: expected a prototxt, found UTF-16 text: save it as UTF-8"),
    "UTF-16 without mark": (UTF16[2:], ":1:1: expected a prototxt, found UTF-16 text"),
    "gzip": (gzip.compress(b"name: 'x'"), ":1:1: expected a prototxt, found an archive: unpack"),
    "xz": (lzma.compress(b"name: 'x'"), ":1:1: expected a prototxt, found an archive: unpack it"),
    "JSON": (b'{"message": "Not Found"}', ":1:1: expected a field name, found '{'"),
    "string not ended": (
        replaced('top: "fc"', 'top: "fc'),
        'expected " to end this string on its line',
    ),
    "deep nesting": (b"a {" * 100_000, ":1:303: expected blocks nested at most 100 deep"),
    "a wide list": (
        b"x: [" + b"1," * 2_000_000,
        ":1:600003: expected at most 300000 fields, found '1'",
    ),
    "unknown fields without end": (
        b"x: 1 " * 1_200_000,
        ":1:1500001: expected at most 300000 fields",
    ),
    "absurd num_output": (replaced("num_output: 4", "num_output: 4000000000"), "layer 'conv'"),
    "num_output over 32 bits": (
        replaced("num_output: 4", "num_output: 4294967296"),
        ":4:35: expected a 32-bit integer of at least 0 for 'num_output', found '4294967296'",
    ),
    "huge num_output": (replaced("num_output: 5", "num_output: 2000000000"), "layer 'fc'"),
    "huge kernel": (replaced("kernel_size: 3", "kernel_size: 4000000000"), "layer 'conv'"),
    "large kernel": (replaced("kernel_size: 3", "kernel_size: 30000"), "layer 'conv'"),
    "huge pad": (replaced("pad: 1", "pad: 2000000000"), "layer 'conv'"),
    "no stride": (replaced("stride: 1", "stride: 0"), "layer 'conv'"),
    "no group": (replaced("group: 1", "group: 0"), "layer 'conv'"),
    "dim 9e18": (replaced("dim: 3", "dim: 9e18"), ":2:76: expected a 64-bit integer for 'dim'"),
    "dim of 63 bits": (replaced("dim: 3", "dim: 9000000000000000000"), "layer 'x'"),
    "dims that overflow": (replaced(DIMS, "dim: 4294967296 dim: 4294967296"), "layer 'x'"),
    "negative dim": (replaced("dim: 3", "dim: -3"), "layer 'x'"),
    "200 axes": (replaced(DIMS, "dim: 1 " * 200), "layer 'x'"),
    "bottom of nobody": (
        replaced('bottom: "x"', 'bottom: "z"'),
        ":3:50: layer 'conv': bottom 'z' is the top of no",
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text(case: str, tmp_path: Path, refused: Run) -> None:
    text, message = TEXTS[case]
    pair = write_pair(tmp_path, text, MODEL)
    line = refused(*flags_of(pair))
    assert line.startswith(f"{pair[0]}:")
    assert message in line
    assert len(line) < 600


def test_files_that_cannot_be_read(tmp_path: Path, refused: Run) -> None:
    good = write_pair(tmp_path, TEXT, BLOBS)
    for bad, reason in (
        (tmp_path / "missing", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (good[0] / "below a file", "Not a directory"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        assert refused(*flags_of((bad, good[1]))) == f"{bad}: {reason}"
        assert refused(*flags_of((good[0], bad))) == f"{bad}: {reason}"


def test_outputs_that_cannot_be_written(tmp_path: Path, refused: Run) -> None:
    pair = write_pair(tmp_path, TEXT, BLOBS)
    missing = tmp_path / "missing"
    for bad, reason in (
        (missing / "out", f"there is no folder {missing}: make it first"),
        (pair[0] / "below a file", "Not a directory"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        for flag in ("--output-model", "--output-weights"):
            assert refused(*flags_of(pair), flag, bad) == f"{bad}: {reason}"
    assert "the output is a folder" in refused(*flags_of(pair), "--output-model", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_outputs_that_are_no_files(tmp_path: Path, refused: Run) -> None:
    """Devices and their like: root could replace them, and so is who runs in a container."""
    pair = write_pair(tmp_path, TEXT, BLOBS)
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for flag in ("--output-model", "--output-weights", "--report"):
        for path in (pipe, link):
            line = refused(*flags_of(pair), flag, path, "--force")
            assert line == f"{path}: the output is a device or the like, not a file"
    assert not pipe.is_file()


def test_outputs_that_would_overwrite(tmp_path: Path, refused: Run) -> None:
    pair = write_pair(tmp_path, TEXT, BLOBS)
    hard, soft, other = (tmp_path / name for name in ("hard", "soft", "other"))
    os.link(pair[1], hard)
    soft.symlink_to(pair[0])
    other.write_text("mine")
    out = ["--output-model", "--output-weights"]
    for force in ([], ["--force"]):
        for flag in out:
            for path in (*pair, hard, soft, tmp_path / "." / pair[0].name):
                line = refused(*flags_of(pair), flag, path, *force)
                assert "would overwrite the input" in line
        line = refused(*flags_of(pair), out[0], tmp_path / "o", out[1], tmp_path / "o", *force)
        assert "both outputs have this name" in line
    for flag in out:
        assert (
            refused(*flags_of(pair), flag, other) == f"{other}: exists already; --force replaces it"
        )
    soft.unlink()
    soft.symlink_to(tmp_path / "nowhere")
    assert "exists already" in refused(*flags_of(pair), out[0], soft)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk:
    """A file on a disk that is full after ``room`` bytes."""

    def __init__(self, inner: Any, room: int) -> None:
        self._inner = inner
        self.room = room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, piece: Any) -> int:
        self.room -= len(piece)
        if self.room < 0:
            raise FULL
        return int(self._inner.write(piece))


@pytest.mark.parametrize("room", [0, 100, len(MODEL) // 2])
@pytest.mark.parametrize("exists", [False, True])
def test_full_disk(
    room: int, exists: bool, tmp_path: Path, refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = write_pair(tmp_path, TEXT, BLOBS)
    if exists:
        write_pair(tmp_path, "old", {}, "net_merged")
    created = replacement.created  # type: ignore[attr-defined]
    monkeypatch.setattr(replacement, "created", lambda path: FullDisk(created(path), room))
    line = refused(*flags_of(pair), "--force")
    assert line == f"{tmp_path / 'net_merged.caffemodel'}: No space left on device"


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("at", range(4))
def test_a_system_call_that_fails_leaves_the_old_pair(
    call: str, at: int, tmp_path: Path, refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = write_pair(tmp_path, TEXT, BLOBS)
    write_pair(tmp_path, "old", {}, "net_merged")
    real, calls = getattr(os, call), []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == at + 1:
            raise FULL
        return real(*args)

    if call == "fsync" and at > 1:  # of folders: no longer the files' matter
        return
    monkeypatch.setattr(os, call, failing)
    assert "No space left on device" in refused(*flags_of(pair), "--force", "--validate", "none")
    assert len(calls) > at


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_dev_full(tmp_path: Path, refused: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = write_pair(tmp_path, TEXT, BLOBS)
    with open("/dev/full", "r+b", buffering=0) as full:
        monkeypatch.setattr(replacement, "created", lambda path: full)
        assert "No space left on device" in refused(*flags_of(pair))


# Its own peak, which unlike that of wait4 does not begin with ours.
SCRIPT = """
import sys
from caffe_merge.command.cli import merge_bn
status = merge_bn()
for line in open("/proc/self/status") if sys.platform == "linux" else ["VmHWM: 0 kB"]:
    if line.startswith("VmHWM"):
        print(line.split()[1])
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (TEXT.encode(), b"\xa2\x06" + b"\xff" * 8 + b"\x01"),
        (replaced("dim: 3", "dim: 715827882"), MODEL),
        (b"layer {" * 3_000_000, MODEL),
        (TEXT.encode(), b"\xa2\x06\x04\x0a\x00\x3a\x00" * 2_000_000),
    ],
    ids=["length", "dims", "nesting", "blobs"],
)
def test_memory_is_bounded(text: bytes, model: bytes, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, text, model)
    before = snapshot(tmp_path)
    start = time.perf_counter()
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT, *flags_of(pair)], capture_output=True, text=True
    )
    assert child.returncode == 2
    check_line(child.stderr, before, tmp_path)
    assert int(child.stdout) < 300 << 10
    assert time.perf_counter() - start < 30
