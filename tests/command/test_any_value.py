"""Any value of a flag that takes numbers, shapes or files: done, or one line that says why not."""

from pathlib import Path
from random import Random
from typing import Any, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from caffe_merge.command import cli
from caffe_merge.validation import engines, registry
from caffe_merge.validation.judging import Judging
from caffe_merge.validation.verdict import Comparison
from tests.net.test_npy import saved
from tests.nets import caffemodel, prototxt, seeded, write_pair
from tests.seeds import examples

NET = prototxt(
    "data 1 3 6 5",
    "more 2 4",
    "c: Convolution data -> c { convolution_param { num_output: 2 kernel_size: 3 } }",
    "n: BatchNorm c -> c",
    "r: ReLU c -> c",
    "f: InnerProduct more -> f { inner_product_param { num_output: 3 } }",
    "s: Power f -> s { power_param { scale: 2 } }",
)
FLAGS = {
    "inspect": ("--input-shape",),
    "plan": ("--mean", "--scale", "--input-shape"),
    "validate": ("--mean", "--scale", "--input-shape", "--input"),
}
NUMBERS = (
    *("1", "2", "104.0", " 117 ", "1e3", ".5", "1.", "3", "0", "-1", "+4", "1_0", "0x10", "1e39"),
    *("1e400", "nan", "inf", "-inf", "true", "", " ", "9" * 5000, "2147483648", "4294967296"),
    *("\u0663", "\u00b2", "\u0967", "\uff11", "1\n2", "1\0", "\x1b[31m3", "\udcff", "None", "[1]"),
)
GOOD = 8  # of these, the first ones
DIMS = ("1", "2", "3", "4", "5", "6", "08", " 7", "999999999", *NUMBERS)
NAMES = ("data", "more", "c", "s", "nobody", "", "=", "data=", "d\u00e5ta", "data\0", "\udc80")
PLAIN = ("<f4", "f8", "u1", "<i8")
KINDS: Tuple[Any, ...] = (*PLAIN, "?", ">f4", "f2", "g", "c8", "O", "U3", "M8[D]", [("a", "f4")])
FITTING = ((1, 3, 6, 5), (2, 3, 5, 7), (3, 6, 5), (2, 4))
SHAPES = (*FITTING, (), (1,), (3,), (3, 1, 1), (6, 5, 3), (1, 5, 6, 3), (0, 3), (1,) * 9)


def file(random: Random) -> bytes:
    """An array in a .npy file, or in a BlobProto; some of its bytes may be others."""
    odd = random.randint(0, 2) == 0
    shape = random.choice(SHAPES if odd else FITTING)
    kind = np.dtype(random.choice(KINDS if odd else PLAIN))
    values: np.ndarray = np.zeros(shape, kind)
    if kind.kind in "iuf":
        values[...] = random.randint(0, 127)
    if kind.kind == "f" and odd:
        values[...] = random.choice([np.nan, np.inf, 3e38, 1e-40])
    data = bytearray(saved(values))
    if random.randint(0, 3) == 0:
        blob = caffemodel({"": [np.ones(shape)]})
        data = bytearray(random.choice([blob[4:], blob[6:], blob, b""]))
    for _ in range(random.choice([0, 1, 1, 2, 5]) if odd else 0):
        place = random.randint(0, min(len(data), 200))
        data[place : place + random.randint(0, 3)] = bytes(
            random.choices(range(256), k=random.randint(0, 3))
        )
    return bytes(data)


def value(random: Random, flag: str, path: str) -> str:
    """What may stand behind ``flag``: NAME=, numbers, the path of a file, or anything."""
    numbers = DIMS if flag == "--input-shape" else NUMBERS
    name = random.choice(["data"] * 15 + ["more"] * 7 + [*NAMES]) + "="
    if flag in ("--mean", "--scale") and random.random() < 0.5:
        name = ""
    kind = random.randint(0, 9)
    if kind == 0:
        return name + "".join(map(chr, random.choices(range(0x500), k=random.randint(0, 8))))
    if kind < 6 and flag in ("--mean", "--input"):
        return name + random.choice([path] * 7 + [path + "x", ".", "/dev/null"])
    if kind < 6:  # as many numbers as there should be
        count = {"--scale": 3, "--input-shape": 4 if name == "data=" else 2}[flag]
        few = [random.choice(numbers[:GOOD]) for _ in range(count)]
        few[1:2] = ["3"] if flag == "--input-shape" and count > 3 else few[1:2]
        return name + ",".join(few)
    return name + ",".join(random.choices(numbers, k=random.randint(0, 5)))


def _here(
    _command: List[str], pairs: Sequence[Tuple[str, str]], judging: Judging, row: registry.Engine
) -> Comparison:
    """The reference engine without its process, so that many values take little time."""
    from caffe_merge.validation.reference_judge import judged

    judging = judging._replace(progress=None, time_limit=None)
    *_, comparison = judged(pairs[0], pairs[1], judging, row.limit, row.most)
    assert isinstance(comparison, Comparison)
    return comparison


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tuple[str, str]:
    monkeypatch.setattr(engines, "_together", _here)
    monkeypatch.setattr("caffe_merge.command.process.interrupt_on_signals", lambda: None)
    text, weights = write_pair(tmp_path, NET, seeded(NET))
    return str(text), str(weights)


def _arguments(random: Random, path: str) -> List[str]:
    """A command and one or two of its flags, each with a value."""
    command = random.choice(sorted(FLAGS))
    chosen = random.choices(FLAGS[command], k=random.randint(1, 2))
    return [command, *(f"{flag}={value(random, flag, path)}" for flag in chosen)]


@pytest.mark.hypothesis
def test_any_value(
    pair: Tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @examples(100)
    @given(number=st.integers(0, 1 << 63))
    def any_value(number: int) -> None:
        random = Random(number)
        content = file(random)
        path = tmp_path / "values"
        path.write_bytes(content)
        command, *flags = _arguments(random, str(path))
        if command == "validate":
            flags += [f"--output-model={pair[0]}", f"--output-weights={pair[1]}"]
        note(f"{command} {flags} {content!r}")
        status = cli.main([command, *pair, *flags])
        said = capsys.readouterr().err
        assert "internal error" not in said
        assert (status == 0) == (not said)
        assert len(said.splitlines()) == (status != 0)

    any_value()
