"""One whole conversion: load, merge, write beside the targets, validate, put in place."""

import contextlib
import errno
import os
import time
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

from caffe_merge import files
from caffe_merge.errors import (
    FileError,
    InputShapeError,
    OptionName,
    Text,
    TextError,
    UsageError,
    ValidationError,
    spelled_in,
)
from caffe_merge.layers.state import State
from caffe_merge.merging.driver import check_names, merge
from caffe_merge.merging.report import SCHEMA, Report
from caffe_merge.net import pixels
from caffe_merge.net.inputs import check_inputs
from caffe_merge.net.loading import Net, load
from caffe_merge.net.saving import Progress, text, write
from caffe_merge.notes import Note
from caffe_merge.options import Options
from caffe_merge.pages import rendering
from caffe_merge.text.syntax import Document, encode
from caffe_merge.validation.registry import DEFAULT, MAY_BE_NONE, NONE
from caffe_merge.weights.blobs import HALF

_VALIDATE = OptionName(MAY_BE_NONE)
_OR_NONE = (", or use ", _VALIDATE, f" {NONE}")
_HEAD = 64  # bytes of a report, which begins with its schema
HALF_LIMIT = 1e-2  # of a blob's largest value, where weights are rounded to half precision


class Conversion(NamedTuple):
    """What to convert, and how; each is the flag of this name, ``options`` those of the merge."""

    model: str
    weights: str
    output_model: str
    output_weights: str
    options: Options = Options()
    force: bool = False
    state: Optional[State] = None
    report: Optional[str] = None
    deploy: bool = False
    keep_dtype: bool = False
    proto: Optional[str] = None
    use_stored_statistics: bool = False
    also_read: Sequence[str] = ()

    @property
    def inputs(self) -> Tuple[str, ...]:
        """The files that are read, ``also_read`` by the caller, and are never written."""
        named = (self.model, self.weights, self.proto, pixels.mean_file(self.options.mean))
        return (*(path for path in named if path is not None), *self.also_read)


class Result(NamedTuple):
    """The report of a conversion, and the comparison if the pair was validated."""

    report: Report
    comparison: Optional[Any]

    @property
    def ok(self) -> bool:
        """Whether the pair was put in place."""
        return self.comparison is None or bool(self.comparison.ok)

    def to_json(self) -> Dict[str, Any]:
        """The report as plain data."""
        return self.report.to_json()


def loaded(conversion: Conversion) -> Net:
    """The pair as it is before the merge. Raises as caffe_merge.load does."""
    return load(
        conversion.model,
        conversion.weights,
        conversion.state,
        conversion.options.input_shapes,
        deploy=conversion.deploy,
        keep_dtype=conversion.keep_dtype,
        proto=conversion.proto,
        use_stored_statistics=conversion.use_stored_statistics,
    )


def plan(conversion: Conversion, *, ahead: bool = False) -> Tuple[Net, Report]:
    """All that ``convert`` does up to writing: the merged net in memory, and its report.

    ``ahead``: it will be written, so all weights are brought in meanwhile.
    """
    start = time.perf_counter()
    net = loaded(conversion)
    if ahead and net.index is not None:
        net.index.read_ahead()
    report = _merge(net, conversion)
    report.extra["files"] = {
        "model": conversion.model,
        "weights": conversion.weights,
        "model_bytes": os.path.getsize(conversion.model),
        "weights_bytes": net.index.size if net.index else 0,
    }
    if net.dialect is not None:
        report.extra["files"]["proto"] = conversion.proto
        _note_unreadable(net, conversion.output_model, report)
    report.extra["seconds"] = {"merge": time.perf_counter() - start}
    return net, report


def _merge(net: Net, conversion: Conversion) -> Report:
    """Merge ``net``; where its report is to be a page, the report has both nets."""
    if conversion.report is None or not rendering.is_page_name(conversion.report):
        return merge(net, conversion.options)
    from caffe_merge.pages.snapshot import Snapshots

    snapshots = Snapshots()
    before = snapshots.take(net.graph(conversion.options.input_shapes))
    report = merge(net, conversion.options)
    report.nets = before, snapshots.take(net.graph(conversion.options.input_shapes))
    return report


def _note_unreadable(net: Net, path: str, report: Report) -> None:
    """Say where the Caffe whose schema was given would not read the text that is to be ``path``."""
    assert net.dialect is not None
    try:
        net.dialect.check(Document(text(net), path))
    except TextError as error:
        message = f"the merged text is not for the Caffe of {net.dialect.path}: {error}"
        report.notes.append(Note("fork-unreadable", "", message))


def convert(
    conversion: Conversion,
    engine: str = DEFAULT,
    *,
    engine_options: Optional[Dict[str, Any]] = None,
    progress: Optional[Progress] = None,
) -> Result:
    """Merge a pair into a new one. Nothing is put in place unless ``engine`` finds it equivalent.

    ``engine`` is that of caffe_merge.validation, or "none"; ``engine_options`` go to its
    ``validate``. ``progress(done, total, name)`` is called after each layer that is written.
    Raises UsageError, before anything is read, where an output would overwrite something.
    """
    with files.Unchanged(conversion.inputs) as inputs:
        check_inputs(conversion.model, conversion.weights)
        check_names(conversion.options)
        outputs = conversion.output_model, conversion.output_weights
        check_report(conversion, outputs)
        files.check_outputs(conversion.inputs, outputs, conversion.force)
        return _convert(conversion, engine, engine_options or {}, progress, inputs)


def _convert(
    conversion: Conversion,
    engine: str,
    engine_options: Dict[str, Any],
    progress: Optional[Progress],
    inputs: files.Unchanged,
) -> Result:
    net, report = plan(conversion, ahead=True)
    comparison = None
    if engine != NONE and net.changed:
        given = [engine_options.get(name) or {} for name in ("shapes", "files")]
        net.require_shapes({**given[0], **given[1]}, Text(*_OR_NONE))
    start = time.perf_counter()
    # The prototxt comes last: one that is there has its weights.
    with files.Replacement(conversion.output_weights, conversion.output_model) as pair:
        write(net, pair, progress)
        report.unchanged = not net.changed
        sizes = [os.path.getsize(part) for part in pair.parts]
        report.extra["files"].update(
            output_model=conversion.output_model,
            output_weights=conversion.output_weights,
            output_model_bytes=sizes[1],
            output_weights_bytes=sizes[0],
        )
        report.extra["seconds"]["write"] = time.perf_counter() - start
        if engine != NONE and not report.unchanged:
            start = time.perf_counter()
            judging = dict(engine_options)
            if judging.get("limit") is None and _keeps_half(net):
                judging["limit"] = HALF_LIMIT
            with original(net) as before:
                comparison = _validate(conversion.options, before, pair.parts, engine, judging)
            report.extra["seconds"]["validate"] = time.perf_counter() - start
        report.extra["validation"] = comparison.to_json() if comparison is not None else None
        result = Result(report, comparison)
        if result.ok:
            start = time.perf_counter()
            inputs.check()
            pair.commit()
            report.extra["seconds"]["put in place"] = time.perf_counter() - start
    return result


def check_report(conversion: Conversion, outputs: Tuple[str, ...] = ()) -> None:
    """Refuse, before anything is done, a report that could not be written or would harm a file."""
    path = conversion.report
    if path is None:
        return
    if rendering.is_page_name(path):
        rendering.require()
    files.check_report(conversion.inputs, outputs, path, _is_report)
    if not os.path.isdir(os.path.dirname(path) or "."):
        # It is written last: that must not fail when the pair is in place.
        raise FileError(f"{path}: {os.strerror(errno.ENOENT)}")


def _is_report(path: str) -> bool:
    """Whether the file at ``path`` is a report of ours, of any version: it is no work of a user."""
    if rendering.is_page_name(path):
        return rendering.is_page(path)
    import json

    kind = SCHEMA.split("/")[0] + "/"
    try:
        with open(path, "rb") as handle:
            head = handle.read(_HEAD)
            if kind.encode() not in head:
                return False
            report = json.loads(head + handle.read())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(report, dict) and str(report.get("schema", "")).startswith(kind)


@contextlib.contextmanager
def original(net: Net) -> Iterator[Tuple[str, str]]:
    """The pair that ``net`` was loaded from, to compare with; if its text was rewritten, so.

    That text is no file of the user's: it is there as long as the context is, and errors name the
    user's.
    """
    path = net.document.path
    weights = net.index.path if net.index else ""
    if not net.rewritten:
        yield path, weights
        return
    with files.temporary_folder() as folder:
        made = os.path.join(folder, os.path.basename(path))
        with open(made, "wb") as handle:
            handle.write(encode(net.document.text))
        try:
            yield made, weights
        except (UsageError, ValidationError) as error:
            parts = error.parts
            raise type(error)(*(_renamed(part, made, path) for part in parts)) from error


def _renamed(part: str, made: str, path: str) -> str:
    return part if isinstance(part, OptionName) else part.replace(made, path)


def _keeps_half(net: Net) -> bool:
    records = net.index.layers if net.index else ()
    return any(blob.dtype == HALF for record in records for blob in record.blobs)


def _validate(
    options: Options,
    before: Tuple[str, str],
    parts: Tuple[str, ...],
    engine: str,
    engine_options: Dict[str, Any],
) -> Any:
    from caffe_merge import validation

    after = (parts[1], parts[0])
    engine_options["raw"] = pixels.pixel_options(options.mean, options.scale, options.swap_rgb)
    engine_options.update(bn_style=options.bn_style, chosen_by=MAY_BE_NONE)
    try:
        return validation.validate(before, after, engine, **engine_options)
    except InputShapeError as error:
        raise InputShapeError(*error.parts, *_OR_NONE) from error


def write_report(report: Report, path: str, name_of: Callable[[str], str] = str) -> None:
    """Write the report as JSON or, if its name says so, as a page; whole or not at all.

    Options in it are called by ``name_of``.
    """
    import json

    if report.nets is not None:
        from caffe_merge.pages import merge_page

        merge_page.write(path, report.to_json(), report.nets, name_of)
        return
    entries = spelled_in(report.to_json(), name_of)
    data = json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False)
    with files.Replacement(path) as place:
        place.handles[0].write(data.encode("utf-8", "backslashreplace") + b"\n")
        place.commit()
