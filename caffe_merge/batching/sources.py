"""Where pairs are looked for: folders, single texts, and lists of pairs."""

import csv
import io
import os
import re
import shlex
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from caffe_merge.errors import UsageError
from caffe_merge.files.inputs import opened
from caffe_merge.files.outputs import default_output
from caffe_merge.files.places import absolute
from caffe_merge.formats.weights.formats import FORMATS

JOURNAL = "caffe-merge-batch.jsonl"  # in the folder of outputs
EARLIER_BATCH = "the outputs of an earlier batch"  # why a folder is left out
TEXTS = (".prototxt", ".pbtxt", ".pt")
WEIGHTS = tuple(extension for row in FORMATS for extension in row.extensions)
LISTS = (".csv", ".tsv", ".txt")
_FIRST_COMMA = re.compile(r"(?:\s|#[^\n]*\n)*[^\s,#]+[ ]*,")  # behind the first cell of all
_LARGEST_LIST = 64 << 20  # bytes


class LeftOut(NamedTuple):
    """A file or folder that is in no pair, and why."""

    path: str
    why: str


class Row(NamedTuple):
    """A row of a list: its pair, its other cells by the flag's name, and ``list:line``."""

    model: str
    weights: str
    cells: Dict[str, str]
    where: str


class Sources:
    """What is there: the texts and weights of each folder, and the rows of lists.

    ``named`` are the texts that were given by name, each with all the weights beside it.
    ``tops`` are the folders above which no text is looked for, ``root`` the one that all that was
    given lies in.
    """

    def __init__(self, paths: Sequence[str], output: str) -> None:
        self.texts: Dict[str, List[str]] = {}
        self.weights: Dict[str, List[str]] = {}
        self.named: Dict[str, List[str]] = {}
        self.rows: List[Row] = []
        self.left_out: List[LeftOut] = []
        self.tops: List[str] = []
        self._output = os.path.realpath(output)
        roots: List[str] = []
        for source in paths:
            self._check_folder(source)
        for source in _without_doubles(paths):
            roots.append(self._add(source))
        self.root = _common(roots)

    def _add(self, source: str) -> str:
        """Take in ``source``; the folder that all of it lies in."""
        if os.path.isdir(source):
            self.tops.append(os.path.normpath(source))
            self._walk(self.tops[-1])
            return self.tops[-1]
        extension = os.path.splitext(source)[1].lower()
        folder = os.path.dirname(source) or "."
        if extension in LISTS:
            rows = list(_rows(source))
            self.rows += rows
            return _root_of_list(folder, rows)
        if extension in WEIGHTS:
            raise UsageError(f"{source}: expected a folder, a prototxt or a list, found weights")
        with opened(source):
            self.named[source] = list(_weights_beside(source))
        return folder

    def _check_folder(self, source: str) -> None:
        if os.path.isdir(source) and os.path.realpath(absolute(source)) == self._output:
            raise UsageError(f"{source}: the outputs would be among the inputs")

    def _walk(self, folder: str) -> None:
        """Take in what is in ``folder`` and below, in the order of names."""
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.left_out.append(LeftOut(folder, error.strerror or str(error)))
            return
        names = {entry.name for entry in ordered}
        if JOURNAL in names:
            self.left_out.append(LeftOut(folder, EARLIER_BATCH))
            return
        earlier = {default_output(name) for name in names}
        for entry in ordered:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                self._enter(entry)
                continue
            extension = os.path.splitext(entry.name)[1].lower()
            if extension not in TEXTS + WEIGHTS:
                continue
            files = self.texts if extension in TEXTS else self.weights
            if entry.name in earlier:
                self.left_out.append(LeftOut(entry.path, "the output of an earlier merge"))
            else:
                files.setdefault(folder, []).append(entry.path)

    def _enter(self, entry: "os.DirEntry[str]") -> None:
        if entry.is_symlink():  # it may lead back to where it is
            self.left_out.append(LeftOut(entry.path, "a link to a folder"))
        elif os.path.realpath(entry.path) != self._output:
            self._walk(entry.path)


def _without_doubles(paths: Sequence[str]) -> List[str]:
    """``paths`` without what is given twice, and folders that lie in another one of them."""
    by_real_path: Dict[str, str] = {}
    for source in paths:
        by_real_path.setdefault(os.path.realpath(source), source)
    folders = [real for real in by_real_path if os.path.isdir(real)]
    return [
        source
        for real, source in by_real_path.items()
        if not (os.path.isdir(real) and any(_is_walked(real, top) for top in folders))
    ]


def _is_walked(folder: str, top: str) -> bool:
    """Whether ``folder`` is among the folders below ``top``, none of them hidden."""
    start = os.path.join(top, "")
    return folder.startswith(start) and "/." not in folder[len(start) - 1 :].replace(os.sep, "/")


def _weights_beside(text: str) -> Iterator[str]:
    folder = os.path.dirname(text)
    names = sorted(os.listdir(folder or "."))
    earlier = {default_output(name) for name in names}
    for name in names:
        is_weights = os.path.splitext(name)[1].lower() in WEIGHTS
        if is_weights and name not in earlier and not name.startswith("."):
            yield os.path.join(folder, name)


def _common(folders: Sequence[str]) -> str:
    if len(folders) == 1:
        return folders[0]
    try:
        return os.path.commonpath([os.path.abspath(folder) for folder in folders])
    except ValueError as error:
        raise UsageError(f"the sources have no folder in common: {error}") from None


def _root_of_list(folder: str, rows: Sequence[Row]) -> str:
    """The list's folder, or the one above it that all of its files lie in."""
    files = [os.path.dirname(path) for row in rows for path in (row.model, row.weights)]
    return _common([folder, *dict.fromkeys(files)]) if files else folder


def _rows(path: str) -> Iterator[Row]:
    """The rows of the list at ``path``; its first one names the columns, if any is "model"."""
    lines = list(_lines(path))
    if not lines:
        raise UsageError(f"{path}: an empty list")
    columns = [_flag(cell) for cell in lines[0][1]]
    if "model" in columns:
        lines = lines[1:]
    else:
        columns = ["model", "weights"]
    if len({*columns}) < len(columns) or "weights" not in columns:
        raise UsageError(f"{path}:1: expected the columns model, weights and flags, each once")
    folder = os.path.dirname(path)
    for number, cells in lines:
        where = f"{path}:{number}"
        if len(cells) > len(columns):
            raise UsageError(
                f"{where}: expected at most {len(columns)} columns, found {len(cells)}"
            )
        row = {name: cell for name, cell in zip(columns, cells) if cell}
        if not {"model", "weights"} <= {*row}:
            raise UsageError(f"{where}: expected a model and its weights")
        pair = [os.path.normpath(os.path.join(folder, row.pop(n))) for n in ("model", "weights")]
        yield Row(pair[0], pair[1], row, where)


def _lines(path: str) -> Iterator[Tuple[int, List[str]]]:
    """Number and cells of each line that says something."""
    with opened(path) as handle:
        data = handle.read(_LARGEST_LIST + 1)
    if len(data) > _LARGEST_LIST:
        raise UsageError(f"{path}: expected a list of at most {_LARGEST_LIST >> 20} MB")
    text = data.decode("utf-8-sig", "surrogateescape")
    delimiter = _delimiter(path, text)
    try:
        if delimiter is None:
            for number, line in enumerate(text.splitlines(), 1):
                cells = shlex.split(line, comments=True)
                if cells:
                    yield number, cells
            return
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True
        )
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells) and not cells[0].startswith("#"):
                yield reader.line_num, cells
    except (csv.Error, ValueError) as error:
        raise UsageError(f"{path}: not a list of pairs: {error}") from None


def _delimiter(path: str, text: str) -> Optional[str]:
    """What is between two cells; None for blanks, with quotes as in a shell."""
    extension = os.path.splitext(path)[1].lower()
    if extension == ".csv":
        return ","
    if extension == ".tsv" or "\t" in text:
        return "\t"
    return "," if _FIRST_COMMA.match(text) else None


def _flag(cell: str) -> str:
    """The name of the flag that a column is headed with: ``--swap-rgb`` is swap_rgb."""
    return cell.strip().lstrip("-").replace("-", "_").lower()
