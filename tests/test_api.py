"""The public names: few, documented, and importable without anything they do not need."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Sequence, Set

import pytest

import caffe_merge
from tests.nets import prototxt, seeded, write_pair

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "digits"
PUBLIC = [
    "CaffeMergeError", "Comparison", "Net", "Report", "batch", "convert", "load", "merge", "save",
    "validate",
]  # fmt: skip


def test_public_names() -> None:
    assert caffe_merge.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(caffe_merge, name).__doc__
    assert dir(caffe_merge) == PUBLIC


def test_an_unknown_flag_is_told() -> None:
    with pytest.raises(caffe_merge.CaffeMergeError, match="'forse'; did you mean 'force'"):
        caffe_merge.convert("p", "w", forse=True)
    with pytest.raises(caffe_merge.CaffeMergeError, match="no flag is called 'report'"):
        list(caffe_merge.batch("p", "out", report="r.json"))


def test_the_version_is_the_one_installed() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", caffe_merge.__version__)
    try:
        assert metadata.version("caffe_merge") == caffe_merge.__version__
    except metadata.PackageNotFoundError:
        pytest.skip("caffe_merge is not installed: the tests run on a checkout")


def test_the_version_needs_no_installation() -> None:
    """With -S nothing that is installed can be imported, the package's own metadata included."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "caffe_merge", "--version"],
        env={**os.environ, "PYTHONPATH": str(Path(caffe_merge.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == f"caffe-merge {caffe_merge.__version__}\n"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, caffe_merge as c; print(*(m in sys.modules for m in sys.argv[1:]))"
    command = [sys.executable, "-c", code, "numpy", "google.protobuf", "caffe_merge.errors"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]


def test_merge_without_validation_starts_no_engine() -> None:
    """Some numpy import subprocess and the like themselves; we import no more than they do."""
    code = """
import sys
import numpy, google.protobuf.descriptor_pool
theirs = set(sys.modules)
import caffe_merge.command.cli, caffe_merge.merging.convert
from caffe_merge import load, merge, save
names = "subprocess tempfile tqdm numpy.random importlib.metadata".split()
names += ["caffe_merge.validation.engines", "caffe_merge.validation.workers"]
names += ["caffe_merge.formats.text.upgrade.v1", "caffe_merge.command.console"]
print([name for name in names if name in sys.modules and name not in theirs])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def imported_by_a_plan(pair: Sequence[Path]) -> Set[str]:
    """What a plan imports: our modules, "caffe_merge." left out, and numpy.ma."""
    code = """
import contextlib, io, sys
from caffe_merge.command import cli
import numpy  # which has its masked arrays with it before numpy 2
before = {"numpy.ma"} & set(sys.modules)
with contextlib.redirect_stdout(io.StringIO()):
    assert cli.main(["plan", *sys.argv[1:]]) == 0
names = [name for name in sys.modules if name.startswith("caffe_merge.") or name == "numpy.ma"]
print(*(name.replace("caffe_merge.", "") for name in names if name not in before))
"""
    command = [sys.executable, "-c", code, *map(str, pair)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


def test_a_plan_imports_what_it_needs() -> None:
    """Nothing that writes, no layers that the net has not, nor numpy's masked arrays."""
    imported = imported_by_a_plan([EXAMPLE / "deploy.prototxt", EXAMPLE / "digits.caffemodel"])
    assert {"merging.planning", "reference.convolution"} <= imported
    needless = {"files.replacement", "formats.text.edits", "formats.text.splices",
                "formats.weights.writer", "layers.range_table", "merging.approximation",
                "merging.convert", "merging.originals", "merging.proof.regions", "net.deployment",
                "net.pixels", "net.saving", "numpy.ma", "passes.absorb_bias", "passes.equalize",
                "passes.fold_image", "passes.in_place", "passes.merge_groups",
                "passes.rewriting.dead_channels", "reference.recurrent",
                "validation.registry"}  # fmt: skip
    assert needless & imported == set()


def test_a_depthwise_layer_of_equal_kernels_is_not_looked_at_for_dead_channels(
    tmp_path: Path,
) -> None:
    """Its outputs are alike only where those of its bottom are: raise-stride makes such layers."""
    net = prototxt(
        "data 1 3 9 8",
        "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }",
        "tanh: TanH conv -> tanh",
        "dw: Convolution tanh -> dw { convolution_param "
        "{ num_output: 6 group: 6 kernel_size: 1 bias_term: false } }",
    )
    blobs = seeded(net)
    blobs["dw"][0][:] = 1
    imported = imported_by_a_plan(write_pair(tmp_path, net, blobs))
    assert "passes.drop_dead_channels" in imported
    assert "passes.rewriting.dead_channels" not in imported


def test_no_pass_imports_masked_arrays(tmp_path: Path) -> None:
    """Where strides go up, and channels are dead: those passes sort out numbers of channels."""
    net = prototxt(
        "data 1 3 9 8",
        "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }",
        "relu: ReLU conv -> relu",
        "dw: Convolution relu -> dw "
        "{ convolution_param { num_output: 6 group: 6 kernel_size: 3 pad: 1 } }",
        "out: Convolution dw -> out "
        "{ convolution_param { num_output: 4 kernel_size: 1 stride: 2 } }",
    )
    blobs = seeded(net)
    for values in blobs["conv"]:
        values[2] = 0
    imported = imported_by_a_plan(write_pair(tmp_path, net, blobs))
    assert {"passes.rewriting.dead_channels", "merging.proof.regions"} <= imported
    assert "numpy.ma" not in imported


def test_every_error_is_one_line_of_one_family() -> None:
    from caffe_merge import errors

    kinds = [v for v in vars(errors).values() if isinstance(v, type)]
    family = [kind for kind in kinds if issubclass(kind, BaseException)]
    assert all(issubclass(error_type, caffe_merge.CaffeMergeError) for error_type in family)
