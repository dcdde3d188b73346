"""Which files may be written; never are inputs, files of other users or devices."""

from __future__ import annotations

import os
from typing import Callable, Sequence

from caffe_merge.errors import FileError, OptionName, UsageError
from caffe_merge.files.identity import same_file
from caffe_merge.files.places import is_of_the_system


def default_output(path: str) -> str:
    """``x.prototxt`` -> ``x_merged.prototxt``, beside the input; all of the stem is kept."""
    stem, extension = os.path.splitext(path)
    if stem.endswith(".caffemodel"):  # x.caffemodel.h5
        stem, inner = os.path.splitext(stem)
        extension = inner + extension
    return f"{stem}_merged{extension}"


def check_outputs(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse an output that is an input, another output, or no file.

    What a killed run left of them is put right. Whether a file stands in their place is checked
    later (`check_free`, `check_report_free`), after all other arguments were found to be right.
    """
    from caffe_merge.files import recovery, workplace  # for those who write

    for path in inputs:
        if workplace.is_inside(path):
            raise UsageError("a run that was killed left this; move it elsewhere first", path=path)
    for number, output in enumerate(outputs):
        for other in inputs:
            if same_file(output, other):
                raise UsageError(f"the output would overwrite the input {other}", path=output)
        for other in outputs[:number]:
            if same_file(output, other):
                raise UsageError(f"both outputs have this name (the other is {other})", path=output)
        _check_kind(output)
    for output in outputs:
        recovery.put_right(output)


def check_folders(outputs: Sequence[str]) -> None:
    """Refuse an output in a folder that does not exist."""
    for output in outputs:
        folder = os.path.dirname(output) or "."
        try:
            os.stat(os.path.join(folder, ""))
        except FileNotFoundError:
            text = f"there is no folder {folder}: make it first"
            raise UsageError(text, path=output) from None
        except OSError as error:
            raise FileError(str(error.strerror or error), path=output) from None


def check_free(outputs: Sequence[str], force: bool) -> None:
    """Refuse an output that exists, without ``force``."""
    for output in outputs:
        if os.path.lexists(output) and not force:
            raise UsageError("exists already; ", OptionName("force"), " replaces it", path=output)


def check_report_free(path: str, is_report: Callable[[str], bool]) -> None:
    """Refuse a report in the place of what is no earlier report."""
    if os.path.lexists(path) and not is_report(path):
        raise UsageError("exists already, and is no report of an earlier run", path=path)


def check_ending(path: str, endings: Sequence[str], what: str) -> None:
    """Refuse a name for ``what`` that ends like another kind of file."""
    if not path.lower().endswith(tuple(endings)):
        *others, last = endings
        choices = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"expected the name of {what}, which ends in {choices}", path=path)


def _check_kind(output: str) -> None:
    """Refuse what is no regular file: root, as in a container, could replace a device."""
    if os.path.isdir(output):
        raise UsageError("the output is a folder", path=output)
    if is_of_the_system(output) or (os.path.exists(output) and not os.path.isfile(output)):
        raise UsageError("the output is a device or the like, not a file", path=output)
