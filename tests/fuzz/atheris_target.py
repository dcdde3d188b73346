"""One target under atheris, in a process of its own: ``TARGET`` and libFuzzer's own flags."""

import sys

import atheris

with atheris.instrument_imports(include=["caffe_merge"]):
    from tests.fuzz.targets import TARGETS


if __name__ == "__main__":
    run = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
