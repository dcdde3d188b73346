"""One target under atheris, in a process of its own: ``TARGET`` and libFuzzer's own flags."""

import contextlib
import importlib
import sys

import atheris

with atheris.instrument_imports(include=["caffe_merge"]):
    from tests.fuzz.targets import TARGETS

    with contextlib.suppress(ImportError):  # without h5py there is nothing of it to fuzz
        importlib.import_module("caffe_merge.weights.hdf5_reader")  # which targets import late


if __name__ == "__main__":
    run = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
