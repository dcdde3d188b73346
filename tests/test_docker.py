"""The Dockerfile held against what it names; no container engine is needed."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest

import caffe_merge

ROOT = Path(__file__).resolve().parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
SCRIPTS = re.findall(r'^"?([\w.-]+)"? = "caffe_merge\.__main__:', PROJECT, re.MULTILINE)


class Instruction(NamedTuple):
    """One instruction: its keyword, and all that follows on its line and continued lines."""

    keyword: str
    rest: str

    @property
    def words(self) -> List[str]:
        """What follows, as words of a shell: quotes are gone."""
        return shlex.split(self.rest)

    @property
    def json(self) -> Any:
        """What follows, of an instruction in exec form."""
        return json.loads(self.rest)


def instructions(text: str) -> List[Instruction]:
    """The instructions of a Dockerfile without heredocs, parser directives and escape=`."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [Instruction(*line.strip().split(None, 1)) for line in logical if line.strip()]


def stages(every: List[Instruction]) -> List[List[Instruction]]:
    """The instructions from each FROM to the next."""
    starts = [at for at, item in enumerate(every) if item.keyword == "FROM"]
    return [every[start:end] for start, end in zip(starts, [*starts[1:], len(every)])]


FILE = instructions((ROOT / "Dockerfile").read_text())
STAGES = stages(FILE)
BUILD, CAFFE, LAST = STAGES


def last(stage: List[Instruction], keyword: str) -> Instruction:
    """The instruction of this keyword that counts: the last."""
    return [item for item in stage if item.keyword == keyword][-1]


def base(stage: List[Instruction]) -> str:
    """The image that a stage starts from."""
    return stage[0].words[0]


def pins(stage: List[Instruction]) -> Dict[str, str]:
    """Package -> version, of each that a stage installs as ``package==version``."""
    words = [word for item in stage if item.keyword == "RUN" for word in item.words]
    return dict(word.split("==") for word in words if "==" in word)


def listed(key: str) -> List[str]:
    """The names of the packages in a list of pyproject.toml."""
    line = next(line for line in PROJECT.splitlines() if line.startswith(f"{key} = ["))
    requirements: List[str] = json.loads(line.split(" = ", 1)[1])
    return [re.split(r"[^\w-]", requirement)[0] for requirement in requirements]


def test_the_parser() -> None:
    text = '# c\nFROM a AS b\nRUN x \\\n# inside\n  && y\n\nCMD ["--help"]\nFROM c\n'
    first, second = stages(instructions(text))
    assert first[0].words == ["a", "AS", "b"]
    assert first[1].words == ["x", "&&", "y"]
    assert first[2].json == ["--help"]
    assert second == [Instruction("FROM", "c")]


@pytest.mark.parametrize("stage", STAGES, ids=["build", "caffe", "last"])
def test_the_base_is_one_release_of_a_python_that_is_supported(stage: List[Instruction]) -> None:
    image, tag = base(stage).split(":")
    version, slim, _ = tag.split("-")
    assert (image, slim, version.count(".")) == ("python", "slim", 2)
    assert f'"Programming Language :: Python :: {version.rpartition(".")[0]}"' in PROJECT


def test_what_is_built_in_one_image_runs_on_the_same_python() -> None:
    assert base(BUILD) == base(LAST)


def test_caffe_is_there_for_its_python() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "caffe_env.py"))
    version = "{0[0]}.{0[1]}".format(base(CAFFE).split(":")[1].split("."))
    assert version in tool["FORKS_VERSIONS"]
    words = last(CAFFE, "RUN").words
    folder = words[words.index("--forks") + 1]
    assert last(CAFFE, "ENV").words == [f"CAFFE_MERGE_CAFFE_PYTHON={folder}/bin/python"]
    needed = {re.split(r"[^\w-]", package)[0].lower() for package in tool["FORKS_PACKAGES"]}
    assert needed <= {name.lower() for name in pins(CAFFE)}


def test_all_that_is_installed_is_pinned() -> None:
    assert set(listed("requires")) <= pins(BUILD).keys()
    for stage in (BUILD, CAFFE):
        assert (
            set(listed("dependencies") + listed("hdf5")) <= pins(BUILD).keys() | pins(stage).keys()
        )


def test_what_is_copied_exists_and_nothing_else_is_sent() -> None:
    copies = [item.words for item in FILE if item.keyword == "COPY"]
    paths = [path for words in copies if not words[0].startswith("--from") for path in words[:-1]]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == set(paths)


@pytest.mark.parametrize("stage", [CAFFE, LAST], ids=["caffe", "last"])
def test_the_label_tells_the_version(stage: List[Instruction]) -> None:
    labels = dict(word.split("=", 1) for word in last(stage, "LABEL").words)
    assert labels["org.opencontainers.image.version"] == caffe_merge.__version__


@pytest.mark.parametrize("keyword", ["WORKDIR", "ENTRYPOINT", "CMD"])
def test_both_images_start_alike(keyword: str) -> None:
    assert last(CAFFE, keyword).words == last(LAST, keyword).words


@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (last(LAST, "CMD").json, "merge_bn.py"),
        (["--model", "a net.prototxt"], "merge_bn.py"),
        (["plan", "--model", "a net.prototxt"], "caffe-merge"),
        ([], "caffe-merge"),
    ],
)
def test_flags_alone_are_merge_bn_s(tmp_path: Path, arguments: List[str], command: str) -> None:
    for name in SCRIPTS:
        script = tmp_path / name
        script.write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@"\n')
        script.chmod(0o755)
    done = subprocess.run(
        [*last(LAST, "ENTRYPOINT").json, *arguments],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [command, *arguments]
