"""The conversion of one pair of files: load, merge, write, validate, replace the targets."""

import os
import time
from typing import Any, Dict, NamedTuple, Optional, Tuple

from caffe_merge.errors import InputShapeError, OptionName, Text
from caffe_merge.files.identity import Unchanged
from caffe_merge.files.outputs import check_folders, check_outputs
from caffe_merge.files.replacement import Replacement
from caffe_merge.formats.weights.blobs import HALF
from caffe_merge.merging.driver import check_options
from caffe_merge.merging.planning import Conversion, loaded, plan
from caffe_merge.merging.report import Report
from caffe_merge.net.inputs import check_inputs
from caffe_merge.net.loading import Net
from caffe_merge.net.saving import Progress, write
from caffe_merge.options import Options
from caffe_merge.validation.registry import DEFAULT, MAY_BE_NONE, NONE, started

_VALIDATE = OptionName(MAY_BE_NONE)
_OR_NONE = (", or use ", _VALIDATE, f" {NONE}")
HALF_LIMIT = 1e-2  # of a blob's largest value, where weights are rounded to half precision


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
    Raises UsageError, before anything is read, where an output would overwrite an input or can be
    no file, or the engine is not here; where an output exists without ``force``, once the pair is
    read and before it is merged.
    """
    options = engine_options or {}
    engine_here = started(engine, options.get("caffe_python"), options.get("time_limit"))
    with engine_here, Unchanged(conversion.inputs) as inputs:
        check_inputs(conversion.model, conversion.weights)
        check_options(conversion.options)
        outputs = conversion.output_model, conversion.output_weights
        if conversion.report is not None:
            from caffe_merge.merging import report_file

            report_file.check(conversion.report, conversion.inputs, outputs)
        check_outputs(conversion.inputs, outputs)
        check_folders(outputs)
        return _convert(conversion, engine, options, progress, inputs)


def _convert(
    conversion: Conversion,
    engine: str,
    engine_options: Dict[str, Any],
    progress: Optional[Progress],
    inputs: Unchanged,
) -> Result:
    net, report = plan(conversion, ahead=True)
    comparison = None
    if engine != NONE and net.changed:
        shapes_and_files = [engine_options.get(name) or {} for name in ("shapes", "files")]
        net.require_shapes({**shapes_and_files[0], **shapes_and_files[1]}, Text(*_OR_NONE))
    start = time.perf_counter()
    # The prototxt comes last: one that is there has its weights.
    with Replacement(conversion.output_weights, conversion.output_model) as pair:
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
            judging = _judging(net, conversion.options, engine_options)
            after = pair.parts[1], pair.parts[0]
            comparison = _judged(conversion, net, report, after, engine, judging)
            report.extra["seconds"]["validate"] = time.perf_counter() - start
        report.extra["validation"] = comparison.to_json() if comparison is not None else None
        result = Result(report, comparison)
        if result.ok:
            start = time.perf_counter()
            inputs.check()
            pair.commit()
            report.extra["seconds"]["put in place"] = time.perf_counter() - start
    return result


def _keeps_half(net: Net) -> bool:
    records = net.index.layers if net.index else ()
    return any(blob.dtype == HALF for record in records for blob in record.blobs)


def _judging(net: Net, options: Options, engine_options: Dict[str, Any]) -> Dict[str, Any]:
    """The engine's options: those that were given, and what the merge was asked for."""
    from caffe_merge.net import pixels

    raw = pixels.pixel_options(options.mean, options.scale, options.swap_rgb)
    judging = {**engine_options, "raw": raw, "bn_style": options.bn_style, "chosen_by": MAY_BE_NONE}
    if judging.get("limit") is None and _keeps_half(net):
        judging["limit"] = HALF_LIMIT
    return judging


def _judged(
    conversion: Conversion,
    net: Net,
    report: Report,
    after: Tuple[str, str],
    engine: str,
    judging: Dict[str, Any],
) -> Any:
    """The comparison of the pair ``after`` with the original, by ``engine``.

    Where something was not exact, its effect goes into the report, and the verdict is on the rest.
    """
    from caffe_merge import validation
    from caffe_merge.merging.originals import approximated, original

    try:
        with original(net) as before:
            if report.approximation is None:
                return validation.validate(before, after, engine, **judging)
            from caffe_merge.validation import inexact

            with approximated(loaded(conversion), conversion.options) as (stand_in, _):
                judged = inexact.validate(before, stand_in, after, engine, **judging)
    except InputShapeError as error:
        raise InputShapeError(*error.parts, *_OR_NONE) from error
    report.approximation = report.approximation.measured(judged.moved)
    return judged.comparison
