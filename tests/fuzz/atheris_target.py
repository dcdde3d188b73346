"""One target under atheris, in a process of its own: ``TARGET`` and libFuzzer's own flags."""

import contextlib
import importlib
import sys

import atheris

with atheris.instrument_imports(include=["caffe_merge"]):
    from tests.fuzz.targets import TARGETS

    # The targets import it late; without h5py there is nothing of it to fuzz.
    with contextlib.suppress(ImportError):
        importlib.import_module("caffe_merge.formats.weights.hdf5_reader")


if __name__ == "__main__":
    run = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
