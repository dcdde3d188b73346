"""The Dockerfile, compose.yaml and docs/docker.md held against what they name; needs no engine."""

import argparse
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Set

import pytest

import caffe_merge
from caffe_merge.command import cli

ROOT = Path(__file__).resolve().parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
SCRIPTS = re.findall(r'^"?([\w.-]+)"? = "caffe_merge\.__main__:', PROJECT, re.MULTILINE)
PAGE = (ROOT / "docs" / "docker.md").read_text()


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


def stages(every: List[Instruction]) -> Dict[str, List[Instruction]]:
    """The instructions from each FROM to the next, by the name of the stage."""
    starts = [at for at, item in enumerate(every) if item.keyword == "FROM"]
    pieces = [every[start:end] for start, end in zip(starts, [*starts[1:], len(every)])]
    return {(piece[0].words[2:] or [""])[-1]: piece for piece in pieces}


FILE = instructions((ROOT / "Dockerfile").read_text())
STAGES = stages(FILE)


def last(stage: str, keyword: str) -> Instruction:
    """The instruction of this keyword that counts: the last, of the stage or the one it is from."""
    items = [item for item in STAGES[stage] if item.keyword == keyword]
    return items[-1] if items else last(base(stage), keyword)


def base(stage: str) -> str:
    """The image or stage that a stage starts from."""
    return STAGES[stage][0].words[0]


def python(stage: str) -> str:
    """The Python of the image that a stage starts from, such as "3.13"."""
    return base(stage).split(":")[1].rpartition(".")[0]


def pins(name: str) -> Dict[str, str]:
    """Package, in lower case -> version, as tools/image says it; each has one."""
    lines = (ROOT / "tools" / "image" / name).read_text().lower().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def names(requirements: List[str]) -> Set[str]:
    """The packages of requirements, in lower case."""
    return {re.split(r"[^\w-]", requirement)[0].lower() for requirement in requirements}


def listed(key: str) -> Set[str]:
    """The names of the packages in a list of pyproject.toml."""
    line = next(line for line in PROJECT.splitlines() if line.startswith(f"{key} = ["))
    return names(json.loads(line.split(" = ", 1)[1]))


def test_the_parser() -> None:
    text = '# c\nFROM a AS b\nRUN x \\\n# inside\n  && y\n\nCMD ["--help"]\nFROM c\n'
    read = stages(instructions(text))
    assert list(read) == ["b", ""]
    assert read["b"][0].words == ["a", "AS", "b"]
    assert read["b"][1].words == ["x", "&&", "y"]
    assert read["b"][2].json == ["--help"]
    assert read[""] == [Instruction("FROM", "c")]


@pytest.mark.parametrize("stage", ["build", "pycaffe", "run"])
def test_the_base_is_one_release_of_a_python_that_is_supported(stage: str) -> None:
    image, tag = base(stage).split(":")
    version, slim, _ = tag.split("-")
    assert (image, slim, version.count(".")) == ("python", "slim", 2)
    assert f'"Programming Language :: Python :: {python(stage)}"' in PROJECT


def test_what_is_built_in_one_image_runs_on_the_same_python() -> None:
    assert base("build") == base("run")
    compiled = next(item.words for item in STAGES["run"] if item.keyword == "RUN")
    assert compiled[-1] == f"/usr/local/lib/python{python('run')}"


def test_the_image_without_a_target_is_what_runs() -> None:
    assert STAGES[""] == [Instruction("FROM", "run")]
    assert base("caffe") == "run"


def test_caffe_is_there_for_its_python() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "caffe_env.py"))
    assert python("pycaffe") in tool["FORKS_VERSIONS"]
    words = last("pycaffe", "RUN").words
    folder = words[words.index("--forks") + 1]
    assert last("caffe", "ENV").words == [f"CAFFE_MERGE_CAFFE_PYTHON={folder}/bin/python"]
    assert names(tool["FORKS_PACKAGES"]) <= pins("caffe_pins.txt").keys()
    copied = [item.words for item in STAGES["caffe"] if item.keyword == "COPY"]
    assert [folder, folder] in [words[1:] for words in copied]
    of_python = [path for words in copied for path in words[1:-1] if path != folder]
    assert all(f"python{python('pycaffe')}" in path for path in of_python)


def test_all_that_is_asked_for_is_pinned() -> None:
    words = [word for item in STAGES["build"] if item.keyword == "RUN" for word in item.words]
    (extras,) = (re.findall(r"\[(.*)\]", word)[0] for word in words if "caffe_merge[" in word)
    needed = set().union(*map(listed, ["requires", "dependencies", *extras.split(",")]))
    assert needed <= pins("pins.txt").keys()
    assert "PIP_CONSTRAINT=/pins.txt" in last("build", "ENV").words
    spoken_of = re.findall(
        r"`(--[a-z-]+)`", PAGE.split("**What is in it**")[1].split("What is not")[0]
    )
    assert spoken_of == ["--images", "--scheduler"]  # the extras but hdf5
    assert extras == "cluster,hdf5,images"


def test_what_is_copied_exists_and_nothing_else_is_sent() -> None:
    copies = [item.words for item in FILE if item.keyword == "COPY"]
    paths = [path for words in copies if not words[0].startswith("--from") for path in words[:-1]]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    sent = {line[1:] for line in lines if line.startswith("!")}
    used = {path: [name for name in sent if f"{path}/".startswith(f"{name}/")] for path in paths}
    assert [path for path in paths if not used[path]] == []
    assert set().union(*used.values()) == sent


@pytest.mark.parametrize("stage", ["run", "caffe"])
def test_the_user_is_not_root(stage: str) -> None:
    user = last(stage, "USER").rest
    assert re.fullmatch("[1-9][0-9]*:[1-9][0-9]*", user)
    assert f"The image's user is {user}" in PAGE


def test_the_label_tells_the_version() -> None:
    labels = dict(word.split("=", 1) for word in last("run", "LABEL").words)
    assert labels["org.opencontainers.image.version"] == caffe_merge.__version__


@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (last("run", "CMD").json, "caffe-merge --help"),
        (["-h"], "caffe-merge -h"),
        (["--model", "a net.prototxt"], "merge_bn.py --model a net.prototxt"),
        (["plan", "--model", "a net.prototxt"], "caffe-merge plan --model a net.prototxt"),
        (["dask", "worker", "a b"], "dask worker a b"),
        (["dask-scheduler", "--host", "0.0.0.0"], "dask scheduler --host 0.0.0.0"),
        ([], "caffe-merge"),
    ],
)
def test_what_its_arguments_start(tmp_path: Path, arguments: List[str], started: str) -> None:
    for name in [*SCRIPTS, "dask"]:
        script = tmp_path / name
        script.write_text('#!/bin/sh\necho "${0##*/}" "$@"\n')
        script.chmod(0o755)
    shell, entry = last("run", "ENTRYPOINT").json
    copies = [item.words for item in STAGES["run"] if item.keyword == "COPY"]
    (source,) = (words[-2] for words in copies if words[-2].endswith(Path(entry).name))
    done = subprocess.run(
        [shell, str(ROOT / source), *arguments],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == started


@pytest.fixture(scope="module")
def compose() -> Any:
    """What it says."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_all_services_run_the_image_shut_in_on_one_volume(compose: Any) -> None:
    assert set(compose["services"]) == {"scheduler", "worker", "batch"}
    for service in compose["services"].values():
        assert service["build"] == "."
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["user"].endswith(f"{last('run', 'USER').rest}}}")
        (volume,) = service["volumes"]
        assert volume.endswith(f":{last('run', 'WORKDIR').rest}")
    assert compose["networks"]["default"]["internal"]


def test_workers_and_batch_speak_to_the_scheduler(compose: Any) -> None:
    scheduler, worker, batch = (compose["services"][n] for n in ("scheduler", "worker", "batch"))
    command = scheduler["command"]
    address = f"tcp://scheduler:{command[command.index('--port') + 1]}"
    assert worker["command"][:3] == ["dask", "worker", address]
    program, *arguments = batch["entrypoint"]
    parsed = cli.all_commands().parse_args([*arguments, "x", "--output-dir", "y"])
    assert (program, parsed.command, parsed.scheduler) == ("caffe-merge", "batch", address)


def test_every_variable_is_told(compose: Any) -> None:
    text = json.dumps(compose)
    assert set(re.findall(r"\$\{(\w+)", text)) == {"MODELS", "USER_AND_GROUP", "WORKERS"}
    assert all(f"{name}=" in PAGE for name in re.findall(r"\$\{(\w+)", text))


def examples() -> List[List[str]]:
    """What follows the image or the service in the lines of docs/docker.md that start one."""
    blocks = re.findall(r"^(?: {4}.*\n)+", PAGE, re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    actual = (
        re.search(r"run --rm .*?(batch|caffe-merge(?::caffe)?)((?: .*)?)$", at) for at in lines
    )
    return [
        ["batch"] * (match[1] == "batch") + shlex.split(match[2].split("#")[0])
        for match in actual
        if match
    ]


@pytest.mark.parametrize("arguments", [words for words in examples() if words], ids=" ".join)
def test_the_examples_of_the_page_can_be_parsed(arguments: List[str]) -> None:
    flags_alone = arguments[0].startswith("-")
    parser: argparse.ArgumentParser = cli.merge_alone() if flags_alone else cli.all_commands()
    parser.parse_args(arguments)


def test_the_smoke_test_looks_for_every_command() -> None:
    script = (ROOT / "tools" / "image_test.sh").read_text()
    (looked_for,) = re.findall(r"for command in (.*); do", script)
    parser = cli.all_commands()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    assert set(looked_for.split()) == set(commands.choices)


def test_the_page_names_every_target_and_the_smoke_test() -> None:
    assert set(re.findall(r"--target (\S+)", PAGE)) == {"caffe"} <= STAGES.keys()
    assert os.access(ROOT / "tools" / "image_test.sh", os.X_OK)
    assert "tools/image_test.sh" in PAGE
    assert len(examples()) >= 5
