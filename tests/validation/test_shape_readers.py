"""A blob that is read for its shape alone may hold something else after a merge."""

from pathlib import Path
from typing import Sequence

import pytest

from caffe_merge.command.cli import main
from tests.nets import prototxt, write_pair

CONV = "z: Convolution {} -> z {{ convolution_param {{ num_output: 2 kernel_size: 3 }} }}"
NETS = {
    "forward": ["r: ReLU data -> r", "s: Scale r -> a",
                "k: Crop data a -> k { crop_param { axis: 2 offset: 0 } }", CONV.format("a")],
    "back": ["c: Convolution data -> c { convolution_param { num_output: 5 kernel_size: 2 } }",
             "m: Pooling c -> m { pooling_param { pool: AVE kernel_size: 2 } }", "s: Scale m -> a",
             "k: Crop data m -> k { crop_param { axis: 2 offset: 0 } }", CONV.format("a")],
    "priors": ["r: ReLU data -> r", "s: Scale r -> a", CONV.format("a"),
               "p: PriorBox a data -> p { prior_box_param { min_size: 3 } }"],
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_what_reads_the_shape_of_a_blob_does_not_hold_its_values(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: Sequence[str] = NETS[name]
    model, weights = write_pair(tmp_path, prototxt("data 2 3 9 8", *lines))
    assert main(["merge", str(model), str(weights), "--skip", "drop-crop"]) == 0
    out = capsys.readouterr().out
    assert "Scale: 1 gone" in out
    assert "passed" in out
