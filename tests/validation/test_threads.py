"""Threads of nets that are run: their memory, and what goes wrong in one."""

import platform

import numpy as np
import pytest

from caffe_merge.errors import ValidationError
from caffe_merge.validation.threads import Task
from tests.memory import page_faults


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
    begin = "from caffe_merge.validation.threads import Task"
    done = page_faults(begin, "task = Task(work); task.start(); task.finish()")
    assert done < 2 * 3 * 512  # their pages twice, and not 20 times
