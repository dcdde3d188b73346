"""The command line: flags to calls, errors to one line on stderr and an exit status.

0 done; 1 the merged pair failed validation; 2 bad usage or bad input; 130 interrupted.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from typing import Any, Callable, Dict, Iterator, NoReturn, Optional, Sequence

from caffe_merge import __version__
from caffe_merge.command import completion, flags, process
from caffe_merge.command.actions import ListTargets
from caffe_merge.command.flags import flag_of
from caffe_merge.command.formatter import HelpFormatter
from caffe_merge.command.printing import print_lines, print_messages, printing, tell
from caffe_merge.errors import (
    CaffeMergeError,
    Text,
    UsageError,
    ValidationError,
    similar,
)

OK, FAILED, BAD = 0, 1, 2


def main(arguments: Optional[Sequence[str]] = None, *, ours: bool = False) -> int:
    """``caffe-merge``: merge, plan, validate, inspect and the other commands.

    A process that is ``ours`` is set up for the command, and ends with it (see process.py).
    """
    first = next(iter(sys.argv[1:] if arguments is None else arguments), None)
    return _run("caffe-merge", functools.partial(all_commands, first=first), arguments, ours)


def merge_bn(arguments: Optional[Sequence[str]] = None, *, ours: bool = False) -> int:
    """``merge_bn.py``: the command merge under the name its users know."""
    return _run("merge_bn.py", merge_alone, arguments, ours)


def all_commands(program: str = "caffe-merge", first: Optional[str] = None) -> _Parser:
    """The parser of ``caffe-merge``; the manual and the reference are made from it too.

    If ``first``, the first word, is a command, it is all there is; if it is -h, none has flags.
    """
    parser = _Parser(prog=program, description=__doc_top__)
    _version_flag(parser)
    completion.add_flag(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in [name for name in _COMMANDS if name == first] or _COMMANDS:
        about, options, action = _COMMANDS[name]
        sub = commands.add_parser(name, help=about, description=about)
        if first not in ("-h", "--help"):
            options(sub)
        sub.set_defaults(action=action)
    return parser


def merge_alone(program: str = "merge_bn.py") -> _Parser:
    """The parser of ``merge_bn.py``."""
    parser = _Parser(prog=program, description=_COMMANDS["merge"][0])
    _version_flag(parser)
    flags.merge(parser)
    parser.set_defaults(action=_merge)
    return parser


__doc_top__ = "Turns a Caffe prototxt + caffemodel into an equivalent, faster pair, and proves it."


class _Parser(argparse.ArgumentParser):
    def __init__(self, **how: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **how})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        """What -h and --version print."""
        with printing():
            super()._print_message(message, file)
            sys.stdout.flush()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = list(action.choices or ())
        if choices and value not in choices:
            close = similar(value, choices)
            if close:
                message = f"invalid choice: {value!r}; did you mean {close!r}?"
                raise argparse.ArgumentError(action, message)
        super()._check_value(action, value)


def _version_flag(parser: argparse.ArgumentParser) -> None:
    text = "show the version and exit"
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help=text)


def _run(
    program: str,
    build: Callable[[str], _Parser],
    arguments: Optional[Sequence[str]],
    ours: bool,
) -> int:
    """Do as the ``arguments`` ask, by the parser that ``build(program)`` makes; the exit status."""
    verbose = False
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the process was started without it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - to the end
    try:
        process.interrupt_on_signals()
        options = _parse(build(program), arguments)
        verbose = getattr(options, "verbose", False)
        if ours:
            process.set_up()
        action: Callable[[argparse.Namespace], int] = options.action
        status = action(options)
        with printing():
            sys.stdout.flush()
        if ours:
            process.leave(status)
        return status
    except KeyboardInterrupt:
        return _fail(program, "interrupted", 130)
    except CaffeMergeError as error:
        if verbose:
            _traceback()
        status = FAILED if isinstance(error, ValidationError) else BAD
        return _fail(program, error.text(flag_of), status)
    except Exception as error:  # the edge: a bug of ours is one line too, unless -v
        if verbose:
            _traceback()
        kind = type(error).__name__
        return _fail(program, f"internal error, please report it: {kind}: {error}", BAD)


def _parse(parser: _Parser, arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    try:
        options, unknown = parser.parse_known_args(arguments)
    except ListTargets:
        return argparse.Namespace(action=_list("targets"))
    if unknown:
        program = " ".join(filter(None, (parser.prog, getattr(options, "command", ""))))
        having = [name for name in _COMMANDS if flags.takes(_COMMANDS[name][1], unknown[0])]
        raise UsageError(flags.unknown(unknown[0], options, program, having))
    if hasattr(options, "pair"):
        flags.name_files(options)
    return options


def _fail(program: str, message: str, status: int) -> int:
    print_messages([f"{program}: error: {message}"])
    return status


def _traceback() -> None:
    import traceback

    print_messages(traceback.format_exc().splitlines())


def _net(options: argparse.Namespace) -> Any:
    from caffe_merge.merging import request

    return request.net(vars(options))


def _judging(options: argparse.Namespace) -> Dict[str, Any]:
    from caffe_merge.command import progress
    from caffe_merge.merging import request

    quiet = getattr(options, "quiet", False)
    bars = progress.bar("validating", "blob", quiet), progress.bar("images", "image", quiet)
    return request.judging(vars(options), *bars)


def _merge(options: argparse.Namespace) -> int:
    from caffe_merge.command import progress
    from caffe_merge.merging import request
    from caffe_merge.merging.convert import convert

    conversion = request.conversion(vars(options))
    judging = _judging(options)
    writing = progress.bar("writing", "layer", options.quiet)
    result = convert(conversion, options.validate, engine_options=judging, progress=writing)
    options.result = result  # held as long as they are: a process that ends need not free it
    if conversion.report is not None:
        from caffe_merge.merging import report_file

        report_file.write(result.report, conversion.report, flag_of)
    from caffe_merge.command import console

    tell(options, lambda: console.merged(result, conversion, options.verbose), result.to_json)
    if not result.ok:
        raise ValidationError("the merged pair was not put in place: ", _reason(result.comparison))
    return OK


def _reason(comparison: Any) -> Text:
    return Text(f"validation by {comparison.engine} {comparison.status}: ", comparison.reason)


def _plan(options: argparse.Namespace) -> int:
    from caffe_merge.command import console
    from caffe_merge.merging import request
    from caffe_merge.merging.planning import plan

    conversion = request.conversion(vars(options))
    if conversion.report is None:
        _, report = plan(conversion)
    else:
        from caffe_merge.merging import report_file

        report_file.check(conversion.report, conversion.inputs)
        _, report = plan(conversion)
        report_file.write(report, conversion.report, flag_of)
    tell(options, lambda: console.plan(report, options.verbose), report.to_json)
    return OK


def _validate(options: argparse.Namespace) -> int:
    from caffe_merge.command import validating

    compared = validating.compare(options, _judging(options))
    tell(options, lambda: compared.lines(options.verbose), compared.to_json)
    if not compared.comparison.ok:
        raise ValidationError(_reason(compared.comparison))
    return OK


def _inspect(options: argparse.Namespace) -> int:
    from caffe_merge.command import console
    from caffe_merge.command.inspection import Inspection
    from caffe_merge.net.propagation import parameter_counts

    net = _net(options)
    graph = net.graph()
    counts = parameter_counts(net.layers, net.input_shapes)
    inspection = Inspection.of(graph, counts)

    def lines() -> Iterator[str]:
        yield from inspection.lines()
        yield from console.advice(net, options.verbose)

    tell(options, lines, inspection.to_json)
    return OK


def _show(options: argparse.Namespace) -> int:
    from caffe_merge.pages import net_page

    path = net_page.prepare(vars(options))
    net_page.write(path, _net(options), flag_of)
    print_lines([] if options.quiet else [f"written: {path}"])
    return OK


def _ranges(options: argparse.Namespace) -> int:
    from caffe_merge.command.ranges import Ranges

    measured = Ranges.of(_net(options))
    tell(options, lambda: measured.lines(options.verbose), measured.to_json)
    return OK


def _check(options: argparse.Namespace) -> int:
    from caffe_merge.command.checking import Checked

    if options.target is None:
        missing = "--target missing: expected the name of a program that reads Caffe pairs"
        raise UsageError(f"{missing}; --target list names them")
    from caffe_merge.pages import net_page

    page = options.report and net_page.prepared(options.report, vars(options))
    net = _net(options)
    checked = Checked.of(net, options.target)
    if page:
        net_page.write(page, net, flag_of, checked.section())
    tell(options, lambda: checked.lines(options.verbose), checked.to_json)
    return FAILED if checked.problems else OK


def _list(what: str) -> Callable[[argparse.Namespace], int]:
    def action(options: argparse.Namespace) -> int:
        from caffe_merge.command import lists

        print_lines(getattr(lists, what)())
        return OK

    return action


def _engines(options: argparse.Namespace) -> int:
    from caffe_merge.command import engines

    engine_rows = engines.rows(options.caffe_python)
    tell(options, lambda: engines.lines(engine_rows), lambda: engines.to_json(engine_rows))
    return OK


def _batch(options: argparse.Namespace) -> int:
    from caffe_merge.command import batch

    return OK if batch.run(vars(options), print_lines, print_messages) else FAILED


_COMMANDS: Dict[str, Any] = {
    "merge": (
        "Merge BatchNorm, Scale and what else is linear at inference into the layers before.",
        flags.merge,
        _merge,
    ),
    "plan": ("Print what merge would do, and write nothing.", flags.plan, _plan),
    "batch": (
        "Merge all pairs of folders and lists, each in a worker process, into a tree of outputs.",
        flags.batch,
        _batch,
    ),
    "validate": (
        "Run two pairs on the same inputs and compare what they compute.",
        flags.validate,
        _validate,
    ),
    "inspect": (
        "Print the net as a table: layer, type, output shape, parameters, multiply-adds.",
        flags.inspect,
        _inspect,
    ),
    "show": (
        "Write a page of one net to look at: its picture, its layers, the ranges of its weights.",
        flags.show,
        _show,
    ),
    "ranges": (
        "Print how ready the weights are for 8 bits: the range of each channel, worst layer first.",
        flags.ranges,
        _ranges,
    ),
    "check": (
        "List what a program that reads Caffe pairs would refuse or compute wrongly.",
        flags.check,
        _check,
    ),
    "engines": (
        "List the engines that judge a pair: which are here, what each lacks, how to get it.",
        flags.engines,
        _engines,
    ),
    "passes": ("List the passes, for --only and --skip.", flags.none, _list("passes")),
    "styles": ("List the styles of BatchNorm, for --bn-style.", flags.none, _list("styles")),
}
