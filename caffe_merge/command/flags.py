"""The flags of the commands."""

import argparse


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, found {text}")
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
    add("-v", "--verbose", action="store_true", help="say all, and show tracebacks")


def _output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output-model", metavar="P", help="default: <stem>_merged.prototxt beside the input")
    add("--output-weights", metavar="W", help="default: <stem>_merged.caffemodel beside the input")


def _rewrite_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="PASS", help="run this pass; repeatable")
    add("--skip", action="append", default=[], metavar="PASS", help="leave it out; repeatable")
    add(
        "--keep", action="append", default=[], metavar="LAYER", help="leave it as it is; repeatable"
    )
    add("--keep-shared", action="store_true", help="unshare no weights: what needs it stays")
    add(
        "--serial",
        choices=("auto", "always", "never"),
        default="auto",
        help="merge consecutive linear layers: where nothing grows (auto), wherever it is exact "
        "(always), or never",
    )
    add(
        "--affine-as",
        choices=("conv", "scale"),
        help="what is left per channel becomes a depthwise convolution of 1x1 (conv), or such "
        "convolutions become Scales; without it both stay as they are",
    )
    _pixel_options(parser)
    add(
        "--input-layer",
        action="store_true",
        help="what cannot be folded of --mean, --scale and --swap-rgb stays as a layer on it",
    )
    _style_option(parser)
    add("--keep-dtype", action="store_true", help="weights in half precision stay so")
    add("--report", metavar="R.json", help="write all that was done, and was not, as JSON")
    add("-q", "--quiet", action="store_true", help="print nothing but errors")


def _pixel_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--mean",
        metavar="[BLOB=]104,117,123",
        help="take raw pixels as input: what is subtracted from them, one value, one a channel (in "
        "the order in which the net reads them), or a .npy file or mean.binaryproto",
    )
    add(
        "--scale",
        metavar="[BLOB=]0.017",
        help="likewise: what they are multiplied with then, one value or one a channel",
    )
    add(
        "--swap-rgb",
        nargs="?",
        const=True,
        default=False,
        metavar="BLOB",
        help="likewise: pixels come in the other order of channels, RGB or BGR, than the net reads",
    )


def _style_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bn-style",
        metavar="STYLE",
        help="read the BatchNorm-like layers that it fits as those of this fork: docs/forks.md",
    )


def _engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--limit", type=_positive, metavar="E", help="largest error, relative to a blob's largest")
    add("--seed", type=_natural, default=0, metavar="N", help="seed of the inputs (0)")
    add("--input-scale", type=_positive, metavar="S", help="standard deviation of the inputs")
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
        choices=("reference", "pycaffe", "none"),
        default="reference",
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
    parser.add_argument(
        "--engine", choices=("reference", "pycaffe"), default="reference", help="(reference)"
    )
    _pixel_options(parser)
    _style_option(parser)
    _engine_options(parser)


def inspect(parser: argparse.ArgumentParser) -> None:
    """The flags of the command inspect."""
    _pair_options(parser, weights_required=False)
