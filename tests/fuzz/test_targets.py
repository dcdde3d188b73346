"""The targets without a fuzzer: the corpus, each item mutated, and any bytes at all."""

import subprocess
import sys
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.corpus import CORPORA
from tests.fuzz.targets import TARGETS, hdf5_whole
from tests.seeds import examples

ODD = [b"\0", b"\x7f", b"\x80", b"\xff", b"\xff" * 8, b"\\", b'"', b"{", b"}", b"[", b"#", b"\n"]


@st.composite
def mutated(draw: st.DrawFn, target: str) -> bytes:
    """An item of the corpus with some of it replaced, put in, left out, or of another item."""
    corpus = CORPORA[target]()
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 9))
        new = draw(st.binary(max_size=4) | st.sampled_from(ODD))
        if draw(st.integers(0, 9)) == 0:
            other = draw(st.sampled_from(corpus))
            start = draw(st.integers(0, len(other)))
            new = other[start : start + 40]
        if draw(st.booleans()):  # in place, so that what follows keeps its offset
            length = len(new)
        data[at : at + length] = new
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus(target: str) -> None:
    corpus = CORPORA[target]()
    if target in ("hdf5", "made") and not corpus:
        pytest.skip("no h5py")
    assert len(corpus) > 10
    for data in corpus:
        TARGETS[target](data)


@examples(400)
@given(mutated("text"))
def test_mutated_text(data: bytes) -> None:
    TARGETS["text"](data)


@examples(400)
@given(mutated("wire"))
def test_mutated_wire(data: bytes) -> None:
    TARGETS["wire"](data)


@pytest.mark.skipif(not CORPORA["hdf5"](), reason="no h5py")
@examples(150)  # each is a file that h5py reads too; make fuzz-readers tries many more
@given(st.data())
def test_mutated_hdf5(data: st.DataObject) -> None:
    TARGETS["hdf5"](data.draw(mutated("hdf5")))


@pytest.mark.skipif(not CORPORA["made"](), reason="no h5py")
@examples(150)
@given(st.binary(max_size=160))
def test_any_whole_hdf5(data: bytes) -> None:
    TARGETS["made"](data)


@pytest.mark.skipif(not CORPORA["hdf5"](), reason="no h5py")
@examples(15)
@given(st.data())
def test_mutated_hdf5_through_both_processes(data: st.DataObject) -> None:
    hdf5_whole(data.draw(mutated("hdf5")))


@examples(400)
@given(st.binary(max_size=200), st.sampled_from(["text", "wire"]))
def test_any_bytes(data: bytes, target: str) -> None:
    TARGETS[target](data)


def run(*arguments: str, missing: bool = False) -> "subprocess.CompletedProcess[str]":
    hide = "import sys; sys.modules['atheris'] = None; " if missing else ""
    code = f"{hide}import runpy, sys; sys.argv[1:] = {list(arguments)!r}; "
    code += "runpy.run_module('tests.fuzz', run_name='__main__')"
    command: List[str] = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_atheris_it_is_said() -> None:
    done = run("3", missing=True)
    assert done.returncode == 1
    assert "nothing was fuzzed: pip install atheris" in done.stderr
