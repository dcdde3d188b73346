"""One pair from its flags to its outcome, in the process that this is called in."""

from __future__ import annotations

import hashlib
import os
import time
from math import isfinite
from typing import Any, Dict, Mapping, Optional

from caffe_merge.batching.outcome import (
    CRASH,
    FAILED,
    INPUT,
    MEMORY,
    MERGED,
    NO_CHANGE,
    VALIDATION,
    Outcome,
)
from caffe_merge.errors import BusyError, CaffeMergeError, Text, ValidationError
from caffe_merge.files.identity import Unchanged
from caffe_merge.files.inputs import opened
from caffe_merge.merging import request
from caffe_merge.merging.convert import Result, convert
from caffe_merge.validation import warm
from caffe_merge.validation.registry import NONE

_PATIENCE = 20.0  # seconds
_PIECE = 1 << 20  # bytes


def run(flags: Mapping[str, Any]) -> Outcome:
    """Merge the pair that ``flags`` name. Whatever is wrong with it is in the outcome."""
    start = time.perf_counter()
    try:
        outcome = _patiently(flags)
    except ValidationError as error:
        outcome = Outcome(FAILED, error.message, VALIDATION)
    except CaffeMergeError as error:
        outcome = Outcome(FAILED, error.message, INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        outcome = Outcome(FAILED, f"{where}{error.strerror or error}", INPUT)
    except MemoryError:
        outcome = Outcome(FAILED, "out of memory", MEMORY)
    except Exception as error:  # a bug of ours is that pair's failure too
        reason = f"internal error, please report it: {type(error).__name__}: {error}"
        outcome = Outcome(FAILED, reason, CRASH)
    return outcome._replace(seconds=time.perf_counter() - start)


def _patiently(flags: Mapping[str, Any]) -> Outcome:
    """Wait for a run on the same outputs whose batch was killed: it ends soon, but not at once."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return _run(flags)
        except BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(_PATIENCE / 100)


def _run(flags: Mapping[str, Any]) -> Outcome:
    conversion = request.conversion(flags)
    read = [conversion.model, conversion.weights, *request.read_files(flags)]
    with Unchanged(read) as unchanged:
        inputs = {path: sha256(path) for path in read}
        unchanged.check()
    outputs = {name: getattr(conversion, name) for name in ("output_model", "output_weights")}
    for path in filter(None, (*outputs.values(), conversion.report)):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    engine = flags["validate"]
    judging = request.judging(flags)
    if engine != NONE:
        warm.keep()
    result = convert(conversion, engine, engine_options=judging)
    trouble = _write_page(result, flags)
    comparison = result.comparison
    if comparison is not None and not result.ok:
        verdict = f"validation by {comparison.engine} {comparison.status}: "
        reason = Text.joined("; ", filter(None, (Text(verdict, comparison.reason), trouble)))
        failed = Outcome(FAILED, reason, VALIDATION, inputs=inputs)
        return failed._replace(validation=_validation(result), figures=_figures(result))
    return Outcome(
        MERGED,
        trouble,
        validation=_validation(result),
        figures=_figures(result),
        inputs=inputs,
        outputs={name: sha256(path) for name, path in outputs.items()},
        target=_target(result),
    )


def _write_page(result: Result, flags: Mapping[str, Any]) -> str:
    """Write the page of a pair, if it is to have one; why that failed, which the pair outlives."""
    if flags["report"] is None:
        return ""
    from caffe_merge.merging import report_file

    try:
        report_file.write(result.report, flags["report"], flags["name_of"])
    except CaffeMergeError as error:
        return Text("its page was not written: ", error.message)
    except Exception as error:  # a bug of ours: the pair is in place all the same
        return f"its page was not written, please report it: {type(error).__name__}: {error}"
    return ""


def _validation(result: Result) -> Dict[str, Any]:
    comparison = result.comparison
    if comparison is None:
        status = NO_CHANGE if result.report.unchanged else NONE
        return {"engine": NONE, "status": status, "worst": None, "accuracy": None}
    worst = comparison.worst[1] if comparison.worst else None
    if worst is not None and not isfinite(worst):
        worst = None  # JSON has no such number; the status tells
    return {
        "engine": comparison.engine,
        "status": comparison.status,
        "worst": worst,
        "accuracy": None if comparison.images is None else comparison.images.accuracy,
    }


def _target(result: Result) -> Optional[str]:
    if result.report.target is None:
        return None
    from caffe_merge.pages import targets

    return targets.line(result.report.target)


def _figures(result: Result) -> Dict[str, Any]:
    """Before and after."""
    report = result.report
    sizes = report.extra["files"]
    names = "layers", "parameters", "multiply_adds"
    figures = {n: [getattr(report.before, n), getattr(report.after, n)] for n in names}
    figures["bytes"] = [
        sizes["model_bytes"] + sizes["weights_bytes"],
        sizes["output_model_bytes"] + sizes["output_weights_bytes"],
    ]
    return figures


def sha256(path: str) -> str:
    """The SHA-256 of the file at ``path``, in hexadecimal. Raises FileError as opening it does."""
    digest = hashlib.sha256()
    with opened(path) as handle:
        while True:
            piece = handle.read(_PIECE)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)
