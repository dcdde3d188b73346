"""Threads of nets that are run: their memory, and what goes wrong in one."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from caffe_merge.errors import ValidationError
from caffe_merge.validation.threads import Task


def test_what_goes_wrong_in_a_task_is_raised_by_who_waits_for_it() -> None:
    def fail() -> None:
        raise ValidationError("as it is")

    task = Task(fail)
    task.start()
    with pytest.raises(ValidationError, match="as it is"):
        task.finish()


def test_a_task_does_its_work_once() -> None:
    done = []
    task = Task(lambda: done.append(1))
    task.start()
    task.finish()
    assert done == [1]


def test_a_task_converts_in_pieces_of_a_row() -> None:
    sizes = []
    task = Task(lambda: sizes.append(np.getbufsize()))
    task.start()
    task.finish()
    assert sizes == [256]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_a_task_keeps_the_memory_of_its_arrays() -> None:
    code = """
import numpy, resource
from caffe_merge.validation.threads import Task
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    before = faults()
    for _ in range(20):
        arrays = [numpy.empty(2 << 20, numpy.uint8) for _ in range(3)]
        for array in arrays:
            array[::4096] = 1
        del array, arrays
    print(faults() - before)
task = Task(work)
task.start()
task.finish()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2 * 3 * 512  # their pages twice, and not 20 times
