"""From pairs to jobs: where each pair's outputs go, and the flags that it is merged with."""

import os
from collections import Counter
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Set, Tuple

from caffe_merge.batching.pairing import Pair
from caffe_merge.errors import UsageError
from caffe_merge.merging import request
from caffe_merge.merging.driver import check_options
from caffe_merge.net.pixels import pixel_options
from caffe_merge.validation.registry import MAY_BE_NONE, NONE, engine, started

_OF_A_PAIR = ("model", "weights", "output_model", "output_weights", "report")
ParseCells = Callable[[Mapping[str, str]], Dict[str, Any]]


class Job(NamedTuple):
    """One pair to be merged: its name in what is printed, its files, all of its flags."""

    name: str
    flags: Dict[str, Any]
    why: str = ""

    @property
    def inputs(self) -> Tuple[str, str]:
        """The text and the weights."""
        return self.flags["model"], self.flags["weights"]

    @property
    def outputs(self) -> Tuple[str, str]:
        """What they become."""
        return self.flags["output_model"], self.flags["output_weights"]

    def with_page(self, folder: str, name_of: Callable[[str], str]) -> "Job":
        """The same, with a page of it below ``folder`` that calls options by ``name_of``."""
        page = os.path.join(folder, self.name + ".html")
        return self._replace(flags={**self.flags, "report": page, "name_of": name_of})


def make(
    pairs: Sequence[Pair],
    root: str,
    output: str,
    flags: Mapping[str, Any],
    parse_cells: ParseCells,
) -> List[Job]:
    """The jobs of ``pairs``; ``output`` gets the tree that they have below ``root``.

    ``parse_cells`` makes flags of a list's cells. Raises UsageError where two outputs are one file,
    or one is an input.
    """
    _check({**flags, "model": "", "weights": ""})
    jobs = []
    for pair, model in zip(pairs, _texts(pairs, root)):
        weights = below(root, pair.weights)
        jobs.append(
            Job(
                name=weights,
                flags={
                    **flags,
                    **_cells(pair, flags, parse_cells),
                    "model": pair.model,
                    "weights": pair.weights,
                    "output_model": os.path.join(output, model),
                    "output_weights": os.path.join(output, weights),
                    "report": None,
                },
                why=pair.why,
            )
        )
    _check_outputs(jobs)
    return jobs


def below(root: str, path: str) -> str:
    """The path of ``path`` below ``root``."""
    return os.path.relpath(os.path.abspath(path), os.path.abspath(root))


def _texts(pairs: Sequence[Pair], root: str) -> List[str]:
    """The path in the output of each pair's text.

    Where one text has several weights, each pair has a text of its own, with the stem of its
    weights, or with their whole name where another pair's text has that stem (a snapshot that was
    written as .caffemodel and as .caffemodel.h5).
    """
    uses = Counter(pair.model for pair in pairs)
    texts = [below(root, pair.model) for pair in pairs]
    shared = [at for at, pair in enumerate(pairs) if uses[pair.model] > 1]
    extensions = {at: os.path.splitext(texts[at])[1] for at in shared}
    for at in shared:
        texts[at] = _stem(below(root, pairs[at].weights)) + extensions[at]
    same = Counter(texts)
    for at in shared:
        if same[texts[at]] > 1:
            texts[at] = below(root, pairs[at].weights) + extensions[at]
    return texts


def _stem(path: str) -> str:
    stem = os.path.splitext(path)[0]
    return stem[: -len(".caffemodel")] if stem.endswith(".caffemodel") else stem


def _cells(pair: Pair, flags: Mapping[str, Any], parse_cells: ParseCells) -> Dict[str, Any]:
    if not pair.flags:
        return {}
    try:
        cells = parse_cells(pair.flags)
        _check({**flags, **cells, "model": pair.model, "weights": pair.weights})
        return cells
    except UsageError as error:
        raise UsageError(f"{pair.where}: ", *error.parts) from None


def check(jobs: Sequence[Job]) -> None:
    """Raise what is wrong with the flags of ``jobs`` on this machine, if all have the same.

    Raises CaffeMergeError: a file that is not there or cannot be read, an engine that does not
    start. Of jobs with flags of their own each tells what is wrong.
    """
    shared = [
        {name: value for name, value in job.flags.items() if name not in _OF_A_PAIR} for job in jobs
    ]
    if not shared or any(flags != shared[0] for flags in shared):
        return
    flags = shared[0]
    request.check_files(flags)
    with started(flags[MAY_BE_NONE], flags["caffe_python"], flags["time_limit"]):
        pass


def _check(flags: Mapping[str, Any]) -> None:
    """Raise UsageError for flags that no pair could be merged with."""
    options = request.conversion(flags).options
    check_options(options)
    pixel_options(options.mean, options.scale, options.swap_rgb)
    if flags[MAY_BE_NONE] != NONE:
        engine(flags[MAY_BE_NONE])


def _check_outputs(jobs: Sequence[Job]) -> None:
    inputs = {os.path.realpath(path) for job in jobs for path in job.inputs}
    outputs: Set[str] = set()
    for job in jobs:
        for path in job.outputs:
            real = os.path.realpath(path)
            if real in inputs:
                raise UsageError(f"{path}: the output would overwrite an input")
            if real in outputs:
                raise UsageError(f"{path}: it would be the output of two pairs; merge one alone")
            outputs.add(real)
