"""The command validate: two pairs of files, read as Caffe would read them, and compared."""

import argparse
import contextlib
import os
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from caffe_merge import validation
from caffe_merge.command import console
from caffe_merge.errors import UsageError, ValidationError
from caffe_merge.files.identity import Unchanged
from caffe_merge.files.outputs import default_output
from caffe_merge.merging import request
from caffe_merge.merging.approximation import Approximation
from caffe_merge.merging.originals import Pair, approximated, original
from caffe_merge.net import pixels, training
from caffe_merge.net.loading import load
from caffe_merge.options import Options


class Compared(NamedTuple):
    """The verdict on a pair; with ``--absorb-bias`` also how far that has moved the outputs."""

    comparison: validation.Comparison
    approximation: Optional[Approximation] = None

    def lines(self, verbose: bool) -> Iterator[str]:
        """What is printed."""
        yield from console.inexact(self.approximation, verbose)
        yield from console.compared(self.comparison, verbose)

    def to_json(self) -> Dict[str, Any]:
        """All of it as JSON types."""
        plain = self.comparison.to_json()
        if self.approximation is not None:
            plain["approximation"] = self.approximation.to_json()
        return plain


def compare(options: argparse.Namespace, judging: Dict[str, Any]) -> Compared:
    """Run both pairs as the flags ask. Raises UsageError where nothing can be compared."""
    after = (
        options.output_model or default_output(options.model),
        options.output_weights or default_output(options.weights),
    )
    with contextlib.ExitStack() as stack:
        inputs = [stack.enter_context(Unchanged((options.model, options.weights)))]
        old = request.net(vars(options))
        old.graph()  # which says in its own way what is wrong with a net
        old.require_shapes(judging["files"])
        before = stack.enter_context(original(old))
        _require_merged(options, after)
        inputs.append(stack.enter_context(Unchanged(after)))
        new = load(*after, request.state(vars(options)))
        new.graph()
        training.check_pairs(old, new)
        after = stack.enter_context(original(new))
        raw = pixels.pixel_options(options.mean, options.scale, options.swap_rgb)
        how = {"bn_style": options.bn_style, "raw": raw, **judging}
        try:
            compared = _compared(options, (before, after), how)
        except ValidationError as error:  # nothing was compared: no verdict on the pair
            raise UsageError(*error.parts) from None
        for files in inputs:
            files.check()
    return compared


def _require_merged(options: argparse.Namespace, after: Tuple[str, str]) -> None:
    """Raise UsageError where the merged pair is not where a merge would have put it."""
    for flag, path in zip((options.output_model, options.output_weights), after):
        if flag is None and not os.path.exists(path):
            name = "name the merged pair with --output-model and --output-weights"
            raise UsageError(f"{path}: no such file; {name}")


def _compared(
    options: argparse.Namespace, pairs: Tuple[Pair, Pair], how: Dict[str, Any]
) -> Compared:
    before, after = pairs
    if not options.absorb_bias:
        return Compared(validation.validate(before, after, options.engine, **how))
    from caffe_merge.validation import inexact

    flags = vars(options)
    alike = Options(bn_style=options.bn_style, input_shapes=request.shapes(flags))
    with approximated(request.net(flags), alike) as (stand_in, done):
        judged = inexact.validate(before, stand_in, after, options.engine, **how)
    return Compared(judged.comparison, done and done.measured(judged.moved))
