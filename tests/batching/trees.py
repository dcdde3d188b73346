"""Trees of small pairs for the tests of batches."""

from pathlib import Path
from typing import Any, Dict, List

from caffe_merge.batching.batch import Plan, Request, plan
from caffe_merge.command import flags
from caffe_merge.command.cli import _Parser
from caffe_merge.command.library import batch_request
from tests.nets import prototxt, write_pair

SOLVER = 'net: "train_val.prototxt"\nbase_lr: 0.01\nlr_policy: "fixed"\n'
LABELS = 'item { name: "cat" label: 1 }\nitem { name: "dog" label: 2 }\n'


def net(outputs: int = 4, name: str = "fc") -> str:
    """A net of which the last layer has this name, and so many outputs."""
    return prototxt(
        "data 1 3 6 6",
        "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
        "bn: BatchNorm conv -> bn",
        f"{name}: InnerProduct bn -> out {{ inner_product_param {{ num_output: {outputs} }} }}",
    )


def training(outputs: int = 4) -> str:
    """The same net, to train it."""
    data = prototxt(
        "data: Data -> data label { data_param { batch_size: 2 } transform_param { crop_size: 6 } }"
    )
    rest = net(outputs).split("layer {", 2)[2]
    loss = prototxt("loss: SoftmaxWithLoss out label -> loss")
    return f"{data}layer {{{rest}{loss}"


def pair(folder: Path, stem: str, text: str, seed: int = 0) -> None:
    """Write ``stem``.prototxt and ``stem``.caffemodel."""
    folder.mkdir(parents=True, exist_ok=True)
    from tests.nets import seeded

    write_pair(folder, text, seeded(text, seed), stem)


def two_pairs(folder: Path) -> Path:
    """``folder``, with the pairs a/x and b/y of two nets in it."""
    pair(folder / "a", "x", net(4))
    pair(folder / "b", "y", net(5))
    return folder


def weights(folder: Path, stem: str, text: str, seed: int = 0) -> None:
    """Write the caffemodel alone."""
    pair(folder, stem + ".of", text, seed)
    (folder / f"{stem}.of.prototxt").unlink()
    (folder / f"{stem}.of.caffemodel").rename(folder / f"{stem}.caffemodel")


def request(*arguments: object, **changes: Any) -> Request:
    """The request of these arguments of ``caffe-merge batch``."""
    parser = _Parser()
    flags.batch(parser)
    values = vars(parser.parse_args([str(argument) for argument in arguments]))
    return batch_request({**values, **changes})


def planned(source: Path, *arguments: object) -> Plan:
    """The plan of a batch of ``source``."""
    return plan(request(source, "--output-dir", source.parent / "OUT", *arguments))


def pairs(plan_made: Plan, source: Path) -> Dict[str, str]:
    """Weights -> text, by their paths in ``source``."""
    return {
        str(Path(job.inputs[1]).relative_to(source)): str(Path(job.inputs[0]).relative_to(source))
        for job in plan_made.jobs
    }


def left_out(plan_made: Plan) -> List[str]:
    """``name: why`` of what is in no pair."""
    return sorted(f"{Path(e.path).name}: {e.why}" for e in plan_made.pairing.left_out)
