"""What the memory of large arrays costs in a process of its own."""

import subprocess
import sys

_WORK = """
import numpy, resource
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    before = faults()
    for _ in range(20):
        arrays = [numpy.empty(2 << 20, numpy.uint8) for _ in range(3)]
        for array in arrays:
            array[::4096] = 1
        del array, arrays
    print(faults() - before)
"""


def page_faults(begin: str, do_work: str) -> int:
    """Pages that are made while 3 arrays of 512 pages come and go 20 times, by ``do_work``."""
    code = f"{begin}\n{_WORK}\n{do_work}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)
