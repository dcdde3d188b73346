"""The Dockerfile held against what it names; no container engine is needed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest

import caffe_merge

ROOT = Path(__file__).resolve().parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
FILE = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
STAGES = re.findall(r"^FROM .*?(?=^FROM |\Z)", FILE.replace("\\\n", " "), re.MULTILINE | re.DOTALL)
BUILD, CAFFE, LAST = STAGES
SCRIPTS = re.findall(r'^"?([\w.-]+)"? = "caffe_merge\.__main__:', PROJECT, re.MULTILINE)


def last(stage: str, instruction: str) -> str:
    """What stands behind the last ``instruction`` of a stage."""
    found: List[str] = re.findall(rf"^{instruction} (.+)", stage, re.MULTILINE)
    return found[-1]


def listed(key: str) -> List[str]:
    """The names of the packages in a list of pyproject.toml."""
    found = re.search(rf"^{key} = \[(.+)\]", PROJECT, re.MULTILINE)
    assert found
    return re.findall(r'"([\w-]+)', found.group(1))


def pins(text: str) -> Dict[str, str]:
    return dict(re.findall(r" ([\w-]+)==([\d.]+)", text))


@pytest.mark.parametrize("stage", STAGES)
def test_the_base_is_one_release_of_a_python_that_is_supported(stage: str) -> None:
    found = re.match(r"FROM python:(3\.\d+)\.\d+-slim-\w+\s", stage)
    assert found
    assert f'"Programming Language :: Python :: {found.group(1)}"' in PROJECT


def test_what_is_built_in_one_image_runs_on_the_same_python() -> None:
    assert BUILD.split()[1] == LAST.split()[1]


def test_caffe_is_there_for_its_python() -> None:
    versions = re.search(r"^VERSIONS = (.+)", (ROOT / "tools/caffe_env.py").read_text(), re.M)
    assert versions
    assert re.findall(r":(3\.\d+)", CAFFE)[0] in versions.group(1)
    assert "kendryte-caffe" in pins(CAFFE)
    assert last(CAFFE, "ENV") == "CAFFE_MERGE_CAFFE_PYTHON=/usr/local/bin/python3"


def test_all_that_is_installed_is_pinned() -> None:
    assert set(listed("requires")) <= pins(BUILD).keys()
    for stage in (BUILD, CAFFE):
        assert set(listed("dependencies") + listed("hdf5")) <= pins(stage).keys()


def test_what_is_copied_exists_and_nothing_else_is_sent() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", FILE, re.MULTILINE)
    paths = " ".join(copies).split()
    assert [path for path in paths if not (ROOT / path).exists()] == []
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == set(paths)


@pytest.mark.parametrize("stage", [CAFFE, LAST], ids=["caffe", "last"])
def test_the_label_tells_the_version(stage: str) -> None:
    assert f'image.version="{caffe_merge.__version__}"' in stage


@pytest.mark.parametrize("instruction", ["WORKDIR", "ENTRYPOINT", "CMD"])
def test_both_images_start_alike(instruction: str) -> None:
    assert last(CAFFE, instruction) == last(LAST, instruction)


@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (json.loads(last(LAST, "CMD")), "merge_bn.py"),
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
        [*json.loads(last(LAST, "ENTRYPOINT")), *arguments],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [command, *arguments]
