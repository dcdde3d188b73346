"""The pair of files that validation compares a merged pair with."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Iterator, Optional, Tuple

from caffe_merge.errors import OptionName, UsageError, ValidationError
from caffe_merge.files.temporary import temporary_folder
from caffe_merge.formats.text.syntax import encode
from caffe_merge.merging.driver import merge
from caffe_merge.net.loading import Net
from caffe_merge.net.saving import save
from caffe_merge.options import Options

if TYPE_CHECKING:
    from caffe_merge.merging.approximation import Approximation

Pair = Tuple[str, str]


@contextlib.contextmanager
def original(net: Net) -> Iterator[Pair]:
    """The pair that ``net`` was loaded from, to compare with.

    If its text was rewritten on loading, the rewritten text: a temporary file that goes with the
    context. Errors name the user's own file.
    """
    path = net.document.path
    weights = net.index.path if net.index else ""
    if not net.rewritten:
        yield path, weights
        return
    with temporary_folder() as folder:
        copy = os.path.join(folder, os.path.basename(path))
        with open(copy, "wb") as handle:
            handle.write(encode(net.document.text))
        with _called(copy, path):
            yield copy, weights


@contextlib.contextmanager
def approximated(net: Net, options: Options) -> Iterator[Tuple[Pair, Optional[Approximation]]]:
    """The files of ``net``, just loaded, with its high biases absorbed and no other rewrite.

    Absorbing is not exact, and its effect is measured on its own; the rest of a merge is exact, and
    is compared with this pair. The files go with the context. Gives the pair and what was absorbed.
    """
    alone = Options(
        only=("absorb-bias",),
        keep=options.keep,
        bn_style=options.bn_style,
        input_shapes=options.input_shapes,
    )
    report = merge(net, alone)
    path, source = net.document.path, net.index.path if net.index else ""
    with temporary_folder() as folder:
        model = os.path.join(folder, "absorbed.prototxt")
        weights = os.path.join(folder, f"absorbed{os.path.splitext(source)[1]}")
        save(net, model, weights)
        with _called(model, path), _called(weights, source):
            yield (model, weights), report.approximation


@contextlib.contextmanager
def _called(copy: str, path: str) -> Iterator[None]:
    """Have errors name the user's file ``path`` where they name ``copy``."""
    try:
        yield
    except (UsageError, ValidationError) as error:
        parts = (
            part if isinstance(part, OptionName) else part.replace(copy, path)
            for part in error.parts
        )
        raise type(error)(*parts) from error
