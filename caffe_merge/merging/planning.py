"""A conversion up to writing: its options checked, its pair loaded and merged in memory."""

import os
import time
from typing import NamedTuple, Optional, Sequence, Tuple

from caffe_merge.errors import TextError
from caffe_merge.files.outputs import check_free
from caffe_merge.layers.state import State
from caffe_merge.merging.driver import check_net, merge
from caffe_merge.merging.report import Report
from caffe_merge.net.loading import Net, Reading, load_as
from caffe_merge.notes import Note
from caffe_merge.options import Options, mean_file


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
        named = (self.model, self.weights, self.proto, mean_file(self.options.mean))
        return (*(path for path in named if path is not None), *self.also_read)


def loaded(conversion: Conversion) -> Net:
    """The pair as it is before the merge. Raises as caffe_merge.load does."""
    how = Reading(
        conversion.state,
        conversion.options.input_shapes,
        conversion.deploy,
        conversion.keep_dtype,
        conversion.proto,
        conversion.use_stored_statistics,
        _text_forms(conversion.options.target),
    )
    return load_as(conversion.model, conversion.weights, how)


def _text_forms(target: Optional[str]) -> Sequence[str]:
    if target is None:
        return ()
    from caffe_merge.merging.target_forms import text_forms

    return text_forms(target)


def plan(conversion: Conversion, *, ahead: bool = False) -> Tuple[Net, Report]:
    """All that ``convert`` does up to writing: the merged net in memory, and its report.

    ``ahead``: the net will be written, so its weights are read into memory in the background.
    """
    start = time.perf_counter()
    net = loaded(conversion)
    check_net(net, conversion.options)
    _check_free(conversion, with_outputs=ahead)
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


def _check_free(conversion: Conversion, with_outputs: bool) -> None:
    """Refuse what is in the way of the report and the outputs.

    This comes after the checks of all arguments, so that nobody adds ``--force`` for a command that
    fails for another reason.
    """
    if conversion.report is not None:
        from caffe_merge.merging import report_file

        report_file.check_free(conversion.report)
    if with_outputs:
        check_free((conversion.output_model, conversion.output_weights), conversion.force)


def _merge(net: Net, conversion: Conversion) -> Report:
    """Merge ``net``; where its report is to be a page, the report has both nets."""
    if conversion.report is None:
        return merge(net, conversion.options)
    from caffe_merge.pages import rendering

    if not rendering.is_page_name(conversion.report):
        return merge(net, conversion.options)
    from caffe_merge.pages.snapshot import Snapshots

    snapshots = Snapshots()
    before = snapshots.take(net.graph(conversion.options.input_shapes))
    report = merge(net, conversion.options)
    report.nets = before, snapshots.take(net.graph(conversion.options.input_shapes))
    return report


def _note_unreadable(net: Net, path: str, report: Report) -> None:
    """Say where the Caffe whose schema was given would not read the text that is to be ``path``."""
    from caffe_merge.formats.text.syntax import Document
    from caffe_merge.net.saving import text

    assert net.dialect is not None
    try:
        net.dialect.check(Document(text(net), path))
    except TextError as error:
        message = f"the merged text is not for the Caffe of {net.dialect.path}: {error}"
        report.notes.append(Note("fork-unreadable", "", message))
