"""The flags of the commands."""

import argparse

from caffe_merge.options import DECLARED, add_flag
from caffe_merge.validation.registry import DEFAULT, ENGINES, NONE

# What a merge was asked for, and whoever compares the two pairs must know.
JUDGED_BY = ("mean", "scale", "swap_rgb", "bn_style")


def positive(text: str) -> float:
    """The number above 0 that a flag was given."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def natural(text: str) -> int:
    """The whole number of at least 0 that a flag was given."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, found {text}")
    return value


def _pair_options(parser: argparse.ArgumentParser, weights_required: bool = True) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="P", help="the prototxt")
    add("--weights", required=weights_required, metavar="W", help="the caffemodel")
    add("--phase", choices=("TEST", "TRAIN"), default="TEST", help="the net's phase (TEST)")
    add("--level", type=int, default=0, metavar="N", help="the net's level (0)")
    add("--stage", action="append", default=[], metavar="S", help="a stage of the net; repeatable")
    add(
        "--input-shape",
        action="append",
        default=[],
        metavar="BLOB=1,3,224,224",
        help="shape of a blob that the text gives no shape for, or another one to validate at",
    )
    add(
        "--deploy",
        action="store_true",
        help="make a training file one to deploy: Input for data, no labels, losses or Accuracy",
    )
    add(
        "--proto",
        metavar="F.proto",
        help="the caffe.proto of your own Caffe: the text is read as it would read it",
    )
    add(
        "--use-stored-statistics",
        action="store_true",
        help="read use_global_stats: false, left in a text to deploy, as true",
    )
    add("-v", "--verbose", action="store_true", help="say all, and show tracebacks")


def _output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output-model", metavar="P", help="default: <stem>_merged.prototxt beside the input")
    add("--output-weights", metavar="W", help="default: <stem>_merged.caffemodel beside the input")


def _rewrite_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    for name, declared in DECLARED.items():
        if declared.help:
            add_flag(add, name)
    add("--keep-dtype", action="store_true", help="weights in half precision stay so")
    add("--report", metavar="R.json", help="write all that was done, and was not, as JSON")
    add("-q", "--quiet", action="store_true", help="print nothing but errors")


def _engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--limit", type=positive, metavar="E", help="largest error, relative to a blob's largest")
    add("--seed", type=natural, default=0, metavar="N", help="seed of the inputs (0)")
    add("--input-scale", type=positive, metavar="S", help="standard deviation of the inputs")
    add(
        "--input",
        action="append",
        default=[],
        metavar="BLOB=FILE.npy",
        help="an input of your own instead of noise; repeatable",
    )
    add("--caffe-python", metavar="PYTHON", help="the interpreter with Caffe, for pycaffe")


def merge(parser: argparse.ArgumentParser) -> None:
    """The flags of the command merge."""
    _pair_options(parser)
    _output_options(parser)
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    parser.add_argument(
        "--validate",
        choices=(*ENGINES, NONE),
        default=DEFAULT,
        help="the engine that must find the new pair equivalent before it is put in place",
    )
    _rewrite_options(parser)
    _engine_options(parser)


def plan(parser: argparse.ArgumentParser) -> None:
    """The flags of the command plan."""
    _pair_options(parser)
    _rewrite_options(parser)


def validate(parser: argparse.ArgumentParser) -> None:
    """The flags of the command validate."""
    _pair_options(parser)
    _output_options(parser)
    parser.add_argument("--engine", choices=tuple(ENGINES), default=DEFAULT, help=f"({DEFAULT})")
    for name in JUDGED_BY:
        add_flag(parser.add_argument, name)
    _engine_options(parser)


def inspect(parser: argparse.ArgumentParser) -> None:
    """The flags of the command inspect."""
    _pair_options(parser, weights_required=False)
