"""What a process of ours sets for itself reaches neither its workers nor its caller."""

import gc
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List

import pytest

from caffe_merge.arrays import HUGE_PAGES
from caffe_merge.command import cli, flags
from caffe_merge.validation import workers
from tests.memory import page_faults
from tests.nets import write_pair
from tests.test_bad_input import BLOBS, TEXT

FINDER = """
import os, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "numpy":
            seen.append(os.environ.get(%r))
seen = []
sys.meta_path.insert(0, Finder)
"""
MESSAGE = f"""
{FINDER % "OPENBLAS_NUM_THREADS"}
import atexit, gc
def tell(status=0):
    print(seen, os.environ.get("OPENBLAS_NUM_THREADS"), gc.get_threshold()[0])
atexit.register(tell)
os._exit = sys.exit  # which is how a process of ours ends
from caffe_merge.__main__ import main
main()
"""


def printed(arguments: List[str], **variables: str) -> str:
    """The threads numpy is imported with, those that stay set, the objects to a collection."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", MESSAGE, *arguments]
    environment: Dict[str, str] = {**clean, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.stdout.splitlines()[-1]


@pytest.fixture
def plan(tmp_path: Path) -> List[str]:
    model, weights = write_pair(tmp_path, TEXT, BLOBS)
    return ["plan", "--model", str(model), "--weights", str(weights)]


def test_numpy_gets_one_thread_and_workers_get_theirs(plan: List[str]) -> None:
    assert printed(plan) == "['1'] None 200000"


@pytest.mark.parametrize("name", ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GOTO_NUM_THREADS"])
def test_the_wish_of_the_user_stands(plan: List[str], name: str) -> None:
    threads = "3" if name == "OPENBLAS_NUM_THREADS" else None
    assert printed(plan, **{name: "3"}) == f"[{threads!r}] {threads} 200000"


SET_UP = "from caffe_merge.command import process; process.set_up()"


def huge_pages(code: str, **wish: str) -> str:
    """What numpy is told of huge pages while ``code`` imports it, and what stays set."""
    clean = {k: v for k, v in os.environ.items() if k != HUGE_PAGES}
    show = f"print(seen, os.environ.get({HUGE_PAGES!r}))"
    command = [sys.executable, "-c", f"{FINDER % HUGE_PAGES}\n{code}\n{show}"]
    environment: Dict[str, str] = {**clean, **wish}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_numpy_asks_for_no_huge_pages() -> None:
    """In a virtual machine each may have to come from the host first."""
    assert huge_pages(SET_UP) == "['0'] None\n"
    assert huge_pages(SET_UP, NUMPY_MADVISE_HUGEPAGE="1") == "['1'] 1\n"


def test_a_worker_that_is_no_copy_asks_for_none_either() -> None:
    code = workers.reference_command()[-1].replace(workers._REFERENCE, "import numpy")
    assert huge_pages(code) == "['0'] 0\n"
    assert huge_pages(code, NUMPY_MADVISE_HUGEPAGE="1") == "['1'] 1\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["plan"]])
def test_what_needs_no_numpy_imports_none(arguments: List[str]) -> None:
    assert printed(arguments) == f"[] None {gc.get_threshold()[0]}"


def test_a_caller_keeps_its_settings(plan: List[str]) -> None:
    before = gc.get_threshold(), gc.get_freeze_count(), dict(os.environ)
    assert cli.main(plan) == 0
    assert (gc.get_threshold(), gc.get_freeze_count(), dict(os.environ)) == before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_memory_of_large_arrays_is_kept_for_the_next() -> None:
    done = page_faults("from caffe_merge.command import process; process.set_up()", "work()")
    assert done < 2 * 3 * 512  # their pages twice, and not 20 times


def test_a_process_of_ours_ends_at_once_and_whole(plan: List[str]) -> None:
    """With its status and all of its output, and without the exit handlers of anybody."""
    code = """
import atexit
atexit.register(print, "handled")
from caffe_merge.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code, *plan], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "Scale: 1 gone"
    missing = [*plan, "--keep", "nothing"]
    failed = subprocess.run([sys.executable, "-c", code, *missing], capture_output=True, text=True)
    assert (failed.returncode, failed.stdout) == (2, "handled\n")


def test_the_process_of_a_caller_goes_on(plan: List[str]) -> None:
    code = """
import numpy, sys
from caffe_merge.command.cli import main
before = numpy.getbufsize()
status = main()
print(status, numpy.getbufsize() == before)
"""
    done = subprocess.run([sys.executable, "-c", code, *plan], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 True"


def test_conversion_is_in_pieces() -> None:
    code = "from caffe_merge.command import process; process.set_up()\n"
    code += "import numpy; print(numpy.getbufsize())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "256\n"


ENDS = {  # and the status of what succeeds otherwise
    "no stdout": (">&-", 0),
    "no stderr": ("2>&-", 0),
    "neither": (">&- 2>&-", 0),
    "a full stdout": (">/dev/full", 2),
    "a full stderr": ("2>/dev/full", 0),
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("more", ["", "--keep=nothing"])
def test_where_nothing_can_be_printed(plan: List[str], end: str, more: str) -> None:
    """The status is what it would have been; of stdout that is an error."""
    redirected, status = ENDS[end]
    command = ["sh", "-c", f'"$0" -m caffe_merge "$@" {redirected}', sys.executable, *plan]
    done = subprocess.run([*command, *filter(None, [more])], capture_output=True, text=True)
    assert done.returncode == (2 if more else status)
    if end == "a full stdout" and not more:
        assert done.stderr == "caffe-merge: error: stdout: No space left on device\n"
    elif end in ("no stdout", "a full stdout") and more:
        assert done.stderr.endswith("the net has no layer of this name\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("more", [[], ["-v"], ["--keep=nothing"], ["--help"]])
def test_where_nobody_reads_the_status_is_what_it_would_have_been(
    plan: List[str], stream: str, more: List[str]
) -> None:
    """As behind ``| head``: no line about it, and no other status."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "caffe_merge", *plan, *more]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    out, err = streams["stdout"], streams["stderr"]
    done = subprocess.run(command, stdout=out, stderr=err, text=True, check=False)
    os.close(writer)
    assert done.returncode == (2 if more == ["--keep=nothing"] else 0)
    if stream == "stdout":
        assert len(done.stderr.splitlines()) == (1 if done.returncode else 0)


INTERRUPTED = """
import sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder)
from caffe_merge.__main__ import {command}
{command}()
"""


@pytest.mark.parametrize("module", ["argparse", "caffe_merge.command.flags"])
@pytest.mark.parametrize("command", ["main", "merge_bn"])
def test_ctrl_c_while_the_command_is_imported_is_one_line(module: str, command: str) -> None:
    code = INTERRUPTED.format(module=module, command=command)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    program = "caffe-merge" if command == "main" else "merge_bn.py"
    assert (done.returncode, done.stderr) == (130, f"{program}: error: interrupted\n")


@pytest.mark.parametrize("command", [cli.main, cli.merge_bn])
def test_ctrl_c_while_the_parser_is_built_is_one_line(
    command: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flags, "merge", interrupted)
    monkeypatch.setitem(cli._COMMANDS, "merge", ("", interrupted, None))
    assert command() == 130
    assert capsys.readouterr().err.endswith(": error: interrupted\n")
