"""The flags of the commands, in groups, with examples."""

from __future__ import annotations

import argparse
from typing import Any, Callable, Dict, Sequence, Tuple

from caffe_merge.command.actions import Once, Target
from caffe_merge.command.formatter import WithExamples
from caffe_merge.errors import UsageError, similar, spelled

# What a merge was asked for, and whoever compares the two pairs must know.
JUDGED_BY = ("mean", "scale", "swap_rgb", "bn_style", "absorb_bias")
STDOUT = "-"  # as the name of a report
_NO_FLAGS = ("action", "command", "needed", "pair")

Add = Callable[..., Any]


def flag_of(name: str) -> str:
    """The option ``name`` as the command line has it."""
    return "--" + name.replace("_", "-")


def add_flag(add: Callable[..., Any], name: str) -> None:
    """Declare the flag of the option ``name`` with an argparse parser's ``add_argument``."""
    from caffe_merge.options import DECLARED

    declared = DECLARED[name]
    how: Dict[str, Any] = {"help": spelled(declared.help, flag_of), "default": declared.default}
    if declared.switch:
        how["action"] = "store_true"
    elif declared.repeatable:
        how.update(action="append", default=[], metavar=declared.metavar)
    elif declared.optional:
        how.update(nargs="?", const=True, metavar=declared.metavar)
    elif declared.choices:
        how["choices"] = declared.choices
    else:
        how.update(action=Target if name == "target" else Once, metavar=declared.metavar)
    add(flag_of(name), **how)


def positive(text: str) -> float:
    """The number above 0 that a flag was given."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def numbers(text: str) -> Tuple[float, ...]:
    """The numbers that a flag was given, with commas between."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        message = f"expected numbers like 104,117,123, found {text}"
        raise argparse.ArgumentTypeError(message) from None


def natural(text: str) -> int:
    """The whole number of at least 0 that a flag was given."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, found {text}")
    return value


def at_least_one(text: str) -> int:
    """The whole number of at least 1 that a flag was given."""
    if natural(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return int(text)


def name_files(options: argparse.Namespace) -> None:
    """Take what stands without a flag as the pair, and ``--report -`` as ``--json``.

    Raises UsageError where a file is named twice or, though the command needs it, not at all.
    """
    positionals = list(options.pair)
    for name in ("model", "weights"):
        if positionals and getattr(options, name) is None:
            setattr(options, name, positionals.pop(0))
    if positionals:
        merged = "; --output-model and --output-weights name the merged pair"
        more = merged if hasattr(options, "output_model") else ""
        raise UsageError(f"{positionals[0]}: the model and the weights are named already{more}")
    missing = [name for name in options.needed if getattr(options, name) is None]
    if missing:
        named = " and ".join(f"--{name}" for name in missing)
        raise UsageError(f"{named} missing: expected a prototxt and a caffemodel")
    if getattr(options, "report", None) == STDOUT:
        options.report, options.json = None, True


def takes(declare: Callable[[argparse.ArgumentParser], None], argument: str) -> bool:
    """Whether the command whose flags ``declare`` declares has the one that ``argument`` is."""
    if not argument.startswith("--"):
        return False
    parser = argparse.ArgumentParser(add_help=False)
    declare(parser)
    word = argument.partition("=")[0]
    return any(word in action.option_strings for action in parser._actions)


def unknown(
    argument: str, options: argparse.Namespace, program: str, having: Sequence[str] = ()
) -> str:
    """What to say of an argument that the command does not take: the flag that it may be meant for.

    ``having`` are the commands that take it.
    """
    flags = ["--" + name.replace("_", "-") for name in vars(options) if name not in _NO_FLAGS]
    word = argument.partition("=")[0]  # perhaps a flag of other commands: json is always set
    close = similar(word, flags)
    hint = f"; did you mean {close}?" if close else ""
    if having:
        hint = f", which {', '.join(having)} {'has' if len(having) == 1 else 'have'}"
    return f"unknown argument {argument}{hint} (see {program} --help)"


def _net(parser: argparse.ArgumentParser, weights: bool = True) -> None:
    """Which files, and how they are read."""
    parser.set_defaults(needed=("model", "weights") if weights else ("model",))
    add = parser.add_argument_group("the net").add_argument
    add("pair", nargs="*", metavar="P W", help="the prototxt and the caffemodel; or by flags:")
    add("--model", metavar="P", help="the prototxt")
    add("--weights", metavar="W", help="the caffemodel, or the weights as HDF5")
    _reading(add)


def _reading(add: Add) -> None:
    """How the files are read."""
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


def _outputs(parser: argparse.ArgumentParser, force: bool = False) -> None:
    add = parser.add_argument_group("the merged pair").add_argument
    add("--output-model", metavar="P", help="default: <stem>_merged.prototxt beside the input")
    add("--output-weights", metavar="W", help="default: <stem>_merged.caffemodel beside the input")
    if force:
        add("--force", action="store_true", help="replace outputs that exist")


def _rewriting(parser: argparse.ArgumentParser) -> None:
    from caffe_merge.options import DECLARED

    add = parser.add_argument_group("what is merged").add_argument
    for name, declared in DECLARED.items():
        if declared.help:
            add_flag(add, name)
    add("--keep-dtype", action="store_true", help="weights in half precision stay so")


def _judging(add: Add) -> None:
    add(
        "--limit",
        type=positive,
        metavar="E",
        help="largest error that passes, relative to a blob's largest value",
    )
    add("--seed", type=natural, default=0, metavar="N", help="seed of the inputs (0)")
    add("--input-scale", type=positive, metavar="S", help="standard deviation of the inputs")
    add(
        "--input",
        action="append",
        default=[],
        metavar="BLOB=FILE.npy",
        help="an input of your own instead of noise; repeatable",
    )
    add(
        "--allow-unseen",
        action="store_true",
        help="pass where nothing differs, though not every rewrite or output could be judged",
    )
    add(
        "--images",
        nargs="+",
        default=[],
        metavar="FOLDER|FILE",
        help="compare the outputs on these images too (jpg, png, bmp), resized to the input",
    )
    add("--image-mean", type=numbers, metavar="104,117,123", help="what is subtracted from them")
    add("--image-scale", type=positive, metavar="S", help="what they are multiplied with then")
    add("--image-rgb", action="store_true", help="their channels come as RGB; else as BGR")
    add(
        "--labels",
        metavar="FILE",
        help="report the accuracy too; each line is an image, a blank, its class",
    )
    _caffe_python(add)
    add(
        "--time-limit",
        type=positive,
        metavar="S",
        help="seconds for an engine to load a net, or to run it (pycaffe and opencv: 600)",
    )


def _caffe_python(add: Add) -> None:
    add("--caffe-python", metavar="PYTHON", help="the interpreter with Caffe, for pycaffe")


def _printing(parser: argparse.ArgumentParser, report: bool = False, json: bool = True) -> None:
    add = parser.add_argument_group("what is reported").add_argument
    if report:
        add(
            "--report",
            metavar="R.html|R.json",
            help="write all that was done, and was not: a page to look at, or JSON; - is stdout, "
            "alone",
        )
    if json:
        add("--json", action="store_true", help="print the result as JSON")
    else:
        parser.set_defaults(json=False)
    add("-q", "--quiet", action="store_true", help="print nothing but errors")
    add("-v", "--verbose", action="store_true", help="say all, and show tracebacks")


def _examples(parser: argparse.ArgumentParser, *lines: str) -> None:
    parser.formatter_class = WithExamples
    parser.epilog = "\n".join(("examples:", *(f"  {parser.prog} {line}" for line in lines)))


def merge(parser: argparse.ArgumentParser) -> None:
    """The flags of the command merge."""
    _net(parser)
    _outputs(parser, force=True)
    _merging(parser)
    _printing(parser, report=True, json=False)
    _examples(
        parser,
        "--model deploy.prototxt --weights x.caffemodel",
        "deploy.prototxt x.caffemodel --output-model y.prototxt --output-weights y.caffemodel",
        "deploy.prototxt x.caffemodel --skip merge-serial --report report.json",
    )


def _merging(parser: argparse.ArgumentParser) -> None:
    """How a pair is merged, and who judges it."""
    from caffe_merge.validation.registry import DEFAULT, ENGINES, NONE

    _rewriting(parser)
    judging = parser.add_argument_group("validation")
    judging.add_argument(
        "--validate",
        choices=(*ENGINES, NONE),
        default=DEFAULT,
        help=f"the engine that must find the new pair equivalent, or none ({DEFAULT})",
    )
    _judging(judging.add_argument)


def batch(parser: argparse.ArgumentParser) -> None:
    """The flags of the command batch: those of merge for every pair, and its own."""
    add = parser.add_argument_group("the pairs").add_argument
    sources = "a folder, a prototxt, or a list of pairs (.csv, .tsv, .txt)"
    add("sources", nargs="+", metavar="SOURCE", help=sources)
    add("--output-dir", required=True, metavar="OUT", help="gets the tree of the sources")
    add("--plan", action="store_true", help="print the pairs and why they are, and merge nothing")
    _reading(add)
    add = parser.add_argument_group("how they are run").add_argument
    add("--jobs", type=at_least_one, metavar="N", help="pairs at a time; default: the cores")
    add("--timeout", type=positive, default=1800.0, metavar="S", help="seconds for a pair (1800)")
    scheduler = "run on dask.distributed: tcp://host:8786, a scheduler file, or local"
    add("--scheduler", metavar="ADDRESS", help=scheduler)
    add("--resume", action="store_true", help="leave what is done, unchanged and whole")
    add("--force", action="store_true", help="replace outputs that exist")
    add("--fail-fast", action="store_true", help="stop at the first pair that fails")
    _merging(parser)
    _printing(parser, report=True, json=False)
    _examples(
        parser,
        "models --output-dir merged --plan",
        "models --output-dir merged --resume --report merged.csv",
        "list.csv --output-dir merged --jobs 2 --validate pycaffe",
    )


def plan(parser: argparse.ArgumentParser) -> None:
    """The flags of the command plan."""
    _net(parser)
    _rewriting(parser)
    _printing(parser, report=True)
    _examples(parser, "deploy.prototxt x.caffemodel -v", "deploy.prototxt x.caffemodel --json")


def validate(parser: argparse.ArgumentParser) -> None:
    """The flags of the command validate."""
    from caffe_merge.validation.registry import DEFAULT, ENGINES

    _net(parser)
    _outputs(parser)
    judging = parser.add_argument_group("validation")
    add = judging.add_argument
    add(
        "--engine",
        choices=tuple(ENGINES),
        default=DEFAULT,
        help=f"the engine that runs both pairs ({DEFAULT})",
    )
    for name in JUDGED_BY:
        add_flag(add, name)
    _judging(add)
    _printing(parser)
    _examples(
        parser,
        "deploy.prototxt x.caffemodel --output-model y.prototxt --output-weights y.caffemodel",
        "deploy.prototxt x.caffemodel --engine pycaffe --caffe-python /usr/bin/python3",
    )


def inspect(parser: argparse.ArgumentParser) -> None:
    """The flags of the command inspect."""
    _net(parser, weights=False)
    _printing(parser)
    _examples(parser, "deploy.prototxt", "deploy.prototxt x.caffemodel --json")


def show(parser: argparse.ArgumentParser) -> None:
    """The flags of the command show."""
    _net(parser, weights=False)
    add = parser.add_argument_group("the page").add_argument
    add("--output", metavar="F.html", help="default: <stem>.html beside the prototxt")
    _printing(parser, json=False)
    _examples(parser, "deploy.prototxt x.caffemodel", "deploy.prototxt --output net.html")


def ranges(parser: argparse.ArgumentParser) -> None:
    """The flags of the command ranges."""
    _net(parser)
    _printing(parser)
    _examples(parser, "deploy.prototxt x.caffemodel", "deploy.prototxt x.caffemodel --json")


def check(parser: argparse.ArgumentParser) -> None:
    """The flags of the command check."""
    _net(parser, weights=False)
    add = parser.add_argument_group("for whom").add_argument
    help_ = "the program that is to read the pair; list names those that are known"
    add("--target", metavar="T", action=Target, help=help_)
    _printing(parser)
    add = parser.add_argument_group("the page").add_argument
    add("--report", metavar="R.html", help="write a page of the net too, with what is listed")
    _examples(parser, "deploy.prototxt x.caffemodel --target ncnn", "--target list")


def engines(parser: argparse.ArgumentParser) -> None:
    """The flags of the command engines."""
    _caffe_python(parser.add_argument)
    _printing(parser)


def none(parser: argparse.ArgumentParser) -> None:
    """No flags: a command that only lists."""
