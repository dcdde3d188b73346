"""The commands merge and batch as functions of the library: flags are keyword arguments."""

from __future__ import annotations

import argparse
import os
from typing import Any, Callable, Collection, Dict, Iterator, Mapping, Optional, Sequence, Union

from caffe_merge.batching import report
from caffe_merge.batching.batch import Request, plan, results
from caffe_merge.batching.outcome import Result as PairResult
from caffe_merge.command import cells, flags, process
from caffe_merge.errors import UsageError, meant
from caffe_merge.merging import convert as converting
from caffe_merge.merging import report_file, request

Path = Union[str, "os.PathLike[str]"]
_OF_THE_BATCH = ("sources", "output_dir", "jobs", "timeout", "scheduler", "resume", "force",
                 "fail_fast")  # fmt: skip
_OF_THE_COMMAND = {"command", "action", "plan", "report", "quiet", "verbose", "json"}


def convert(
    model: Path,
    weights: Path,
    output_model: Optional[Path] = None,
    output_weights: Optional[Path] = None,
    **how: Any,
) -> converting.Result:
    """Merge one pair of files into a new one, validated, both files in place or neither.

    ``output_model`` and ``output_weights`` are ``<stem>_merged.<ext>`` beside the input if not
    given. ``how`` are the flags of ``caffe-merge merge`` by name: ``validate="pycaffe"``,
    ``mean="104,117,123"``, ``force=True``; docs/commands.md has them all. Returns a Result: its
    ``report``, its ``comparison``, and ``ok``: whether the pair was put in place. Raises
    CaffeMergeError where it cannot be merged.
    """
    files = {"model": model, "weights": weights}
    outputs = {"output_model": output_model, "output_weights": output_weights}
    paths = {**files, **{name: path for name, path in outputs.items() if path is not None}}
    values = _flags(flags.merge, [], how, without={"quiet", "verbose", "json", "pair"})
    values.update((name, os.fspath(path)) for name, path in paths.items())
    conversion = request.conversion(values)
    engine = values["validate"]
    judging = request.judging(values)
    result = converting.convert(conversion, engine, engine_options=judging)
    if conversion.report is not None:
        report_file.write(result.report, conversion.report)
    return result


def batch(
    sources: Union[Path, Sequence[Path]], output_dir: Path, **how: Any
) -> Iterator[PairResult]:
    """Merge all pairs of folders, texts and lists, each in a worker process, as they end.

    ``how`` are the flags of ``caffe-merge batch`` by name: ``jobs=2``, ``resume=True``,
    ``skip=["merge-serial"]``; docs/batch.md tells of them. Yields a result for each pair: ``name``,
    its four paths, ``ok``, and ``outcome`` with all that is known of it. Who stops iterating stops
    the workers. Raises UsageError where there is nothing to merge, or an output is in the way.
    """
    paths = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    values = _flags(flags.batch, ["", "--output-dir", ""], how, without=_OF_THE_COMMAND)
    values.update(sources=[os.fspath(source) for source in paths])
    values.update(output_dir=os.fspath(output_dir))
    requested = batch_request(values)
    yield from results(requested, plan(requested))


def batch_request(
    values: Mapping[str, Any], started: Callable[[str], None] = lambda name: None
) -> Request:
    """The Request of all flags of the command batch."""
    of_pairs = {
        name: value
        for name, value in values.items()
        if name not in _OF_THE_COMMAND and name not in _OF_THE_BATCH
    }
    return Request(
        **{name: values[name] for name in _OF_THE_BATCH},
        pages=report.pages(values.get("report")),
        name_of=flags.flag_of,
        flags=of_pairs,
        parse_cells=cells.parse,
        setup=process.set_up,
        started=started,
    )


def _flags(
    declare: Callable[[argparse.ArgumentParser], None],
    required: Sequence[str],
    how: Mapping[str, Any],
    without: Collection[str],
) -> Dict[str, Any]:
    """The flags of a command with the values of ``how``, else as they are by themselves."""
    parser = argparse.ArgumentParser(add_help=False)
    declare(parser)
    defaults = vars(parser.parse_args(required))
    values = {name: value for name, value in defaults.items() if name not in without}
    for name in how:
        if name not in values and name != "input_shapes":
            raise UsageError(f"no flag is called {name!r}{meant(name, values)}")
    return {**values, **how}
