"""Which text and which weights are one model: recognised by layers and shapes, then by their stems.

Weights go with a text of their own folder, or of the nearest one above that has one they fit. They
fit where every layer that has learned something finds its blobs, of its shapes. Of several such
texts those count for which the fewest weights are left over; between these the stem decides.
"""

import os
import re
from typing import Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

from caffe_merge.batching.content import NotANet
from caffe_merge.batching.outcome import INPUT, PAIRING
from caffe_merge.batching.sources import LeftOut, Sources
from caffe_merge.errors import CaffeMergeError, OptionName, Text, UsageError
from caffe_merge.merging import request
from caffe_merge.merging.planning import loaded
from caffe_merge.merging.request import Flags
from caffe_merge.net.outline import Key, Outline
from caffe_merge.wording import counted, quoted

_OF_TEXTS = re.compile(r"(?i)[-_.]?(?:deploy|test|merged|inference)$")
_SHOWN = 12  # texts that are equally good
_OF_SNAPSHOTS = re.compile(r"(?i)[-_.]?iter_?\d+$")
_DEPLOY_MAKES = OptionName("deploy"), " makes it one to deploy"


class Pair(NamedTuple):
    """A text and its weights; ``why`` they are one model; flags of their own, by name."""

    model: str
    weights: str
    why: str
    flags: Dict[str, str]
    where: str = ""


class Unpaired(NamedTuple):
    """Weights that no text was chosen for, why, and the first texts that were equally good.

    ``kind`` is that of the failure: PAIRING where a list can name the text, else INPUT.
    """

    weights: str
    why: str
    candidates: Tuple[str, ...] = ()
    kind: str = PAIRING

    @property
    def reason(self) -> str:
        """Why, and the candidates."""
        return Text(self.why, ": ", ", ".join(self.candidates)) if self.candidates else self.why


class Pairing(NamedTuple):
    """All pairs, the weights without a text, and what else was met."""

    pairs: List[Pair]
    unpaired: List[Unpaired]
    left_out: List[LeftOut]


class Misfit(str):
    """Why weights are not those of a text."""


class _Equals:
    """Texts that weights fit equally well."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = sorted(paths)
        self._by_stem: Dict[str, List[str]] = {}
        self._by_plain_stem: Dict[str, List[str]] = {}
        for path in self.paths:
            self._by_stem.setdefault(_stem(path), []).append(path)
            self._by_plain_stem.setdefault(_plain_stem(path, _OF_TEXTS), []).append(path)

    def choose(self, weights: str) -> Union[Pair, Unpaired]:
        """The pair of ``weights`` and the one text whose name says so, where there are several."""
        above = os.path.dirname(self.paths[0]) != os.path.dirname(weights)
        where = "the nearest folder above" if above else "its folder"
        count = len(self.paths)
        if count == 1:
            why = f"the net in {where} whose layers and shapes it fits"
            return Pair(self.paths[0], weights, why, {})
        for same in (
            self._by_stem.get(_stem(weights), ()),
            self._by_plain_stem.get(_plain_stem(weights, _OF_SNAPSHOTS), ()),
        ):
            if len(same) == 1:
                why = f"by its name, of {count} nets in {where} that it fits"
                return Pair(same[0], weights, why, {})
        why = f"it fits {count} nets in {where} equally well, and no name decides"
        return Unpaired(weights, why, tuple(self.paths[:_SHOWN]))


class _Texts:
    """The nets among the texts of one folder."""

    def __init__(self, outlines: Dict[str, Outline]) -> None:
        self.outlines = outlines
        self.without_key = [path for path in outlines if outlines[path].key is None]
        self.by_rarest: Dict[str, List[str]] = {}
        by_key: Dict[Key, List[str]] = {}
        uses: Dict[str, int] = {}
        for outline in outlines.values():
            for name in outline.learned:
                uses[name] = uses.get(name, 0) + 1
        for path, outline in outlines.items():
            if outline.learned:
                rarest = min(outline.learned, key=lambda name: (uses[name], name))
                self.by_rarest.setdefault(rarest, []).append(path)
            if outline.key is not None:
                by_key.setdefault(outline.key, []).append(path)
        self.by_key = {key: _Equals(paths) for key, paths in by_key.items()}
        self.fitting: Dict[Key, Optional[_Equals]] = {}  # what weights of a key fit best

    def with_layers(self, names: FrozenSet[str]) -> Iterator[str]:
        """The texts of which all that has learned is among ``names``."""
        for name in names & self.by_rarest.keys():
            for path in self.by_rarest[name]:
                if self.outlines[path].learned <= names:
                    yield path


class Pairer:
    """Pairs what is in ``sources``; ``texts`` and ``weights`` say what each file holds."""

    def __init__(
        self,
        sources: Sources,
        flags: Flags,
        texts: Dict[str, Union[Outline, NotANet]],
        weights: Dict[str, Union[Key, NotANet]],
    ) -> None:
        self._sources = sources
        self._flags = flags
        self._texts = texts
        self._weights = weights
        self._folders: Dict[Tuple[str, bool], _Texts] = {}
        self._fits: Dict[Tuple[Outline, Key], Union[int, Misfit]] = {}

    def pairing(self) -> Pairing:
        """The pairs, in the order of rows, texts given by name, and folders."""
        sources = self._sources
        pairs = [Pair(r.model, r.weights, f"by {r.where}", r.cells, r.where) for r in sources.rows]
        taken = {os.path.realpath(pair.weights) for pair in pairs}
        unpaired: List[Unpaired] = []
        for text in sources.named:
            named = self._named(text)
            pairs += [pair for pair in named if os.path.realpath(pair.weights) not in taken]
            taken.update(os.path.realpath(pair.weights) for pair in named)
            if not named:
                unpaired.append(Unpaired(text, "no weights beside it fit it"))
        for paths in sources.weights.values():
            for path in paths:
                if os.path.realpath(path) in taken:
                    continue
                chosen = self._choose(path)
                if isinstance(chosen, Pair):
                    pairs.append(chosen)
                elif isinstance(chosen, Unpaired):
                    unpaired.append(chosen)
        return Pairing(pairs, unpaired, [*sources.left_out, *self._without_weights(pairs)])

    def _named(self, text: str) -> List[Pair]:
        """The pairs of a text that the user named: all weights beside it that fit it."""
        outline = self._texts[text]
        if isinstance(outline, NotANet):
            raise UsageError(f"{text}: expected the text of a net, found ", outline.why)
        pairs = []
        for path in self._sources.named[text]:
            key = self._weights[path]
            if isinstance(key, NotANet) or isinstance(self._fit(text, outline, path, key), Misfit):
                continue
            pairs.append(Pair(text, path, "this text was given", {}))
        return pairs

    def _choose(self, weights: str) -> Union[Pair, Unpaired, None]:
        """The pair of ``weights``; None where it is a data file, not weights."""
        key = self._weights[weights]
        if isinstance(key, NotANet):
            if ".caffemodel" not in os.path.basename(weights).lower():  # HDF5 may be anything
                self._sources.left_out.append(LeftOut(weights, Text("not weights: ", key.why)))
                return None
            return Unpaired(weights, key.why, kind=INPUT)
        for training in (False, True) if self._flags["deploy"] else (False,):
            for folder in self._above(weights):
                candidates = self._candidates(self._nets(folder, training), weights, key)
                if candidates is not None:
                    return candidates.choose(weights)
        if not self._flags["deploy"]:
            for folder in self._above(weights):
                candidates = self._candidates(self._nets(folder, True), weights, key)
                if candidates is not None:
                    text = candidates.paths[0]
                    why = Text(f"{text} fits, but is for training: ", *_DEPLOY_MAKES)
                    return Unpaired(weights, why, kind=INPUT)
        return Unpaired(weights, self._why_none(weights, key))

    def _above(self, path: str) -> Iterator[str]:
        """The folder of ``path``, and those above it up to the source it was found in."""
        folder = os.path.dirname(path)
        while True:
            yield folder
            if folder in self._sources.tops or os.path.dirname(folder) == folder:
                return
            folder = os.path.dirname(folder)

    def _nets(self, folder: str, training: bool) -> _Texts:
        if (folder, training) not in self._folders:
            outlines = {}
            for path in self._sources.texts.get(folder, ()):
                content = self._texts[path]
                if isinstance(content, Outline) and content.training == training:
                    outlines[path] = content
            self._folders[folder, training] = _Texts(outlines)
        return self._folders[folder, training]

    def _candidates(self, texts: _Texts, weights: str, key: Key) -> Optional[_Equals]:
        """The texts that ``weights`` fit, with the fewest left over."""
        if key not in texts.fitting:
            texts.fitting[key] = self._best(texts, weights, key)
        return texts.fitting[key]

    def _best(self, texts: _Texts, weights: str, key: Key) -> Optional[_Equals]:
        names = frozenset(name for name, _ in key)
        exact = texts.by_key.get(key)
        fits: Dict[int, List[str]] = {}
        for path in texts.with_layers(names) if exact is None else texts.without_key:
            left_over = self._fit(path, texts.outlines[path], weights, key)
            if isinstance(left_over, int):
                fits.setdefault(left_over, []).append(path)
        if exact is not None:
            return _Equals([*exact.paths, *fits[0]]) if 0 in fits else exact
        return _Equals(fits[min(fits)]) if fits else None

    def _fit(self, text: str, outline: Outline, weights: str, key: Key) -> Union[int, Misfit]:
        """How many layers' weights are left over; why not, where they do not fit."""
        if outline.key == key:
            return 0
        names = {name for name, _ in key}
        if not outline.learned <= names:
            return Misfit(f"there are no weights for layer {quoted(min(outline.learned - names))}")
        if (outline, key) not in self._fits:
            fit: Union[int, Misfit] = len(names - outline.layers)
            pair = {"model": text, "weights": weights}
            try:
                loaded(request.conversion({**self._flags, **pair}))
            except CaffeMergeError as error:
                fit = Misfit(error)
            self._fits[outline, key] = fit
        return self._fits[outline, key]

    def _why_none(self, weights: str, key: Key) -> str:
        """Why no text goes with ``weights``; it is only asked where none does."""
        texts = [
            (text, outline)
            for folder in self._above(weights)
            for training in (False, True)
            for text, outline in self._nets(folder, training).outlines.items()
        ]
        if not texts:
            return "there is no text of a net in its folder or above"
        names = {name for name, _ in key}
        text, outline = max(texts, key=lambda entry: len(entry[1].learned & names))
        more = f" ({counted(len(texts), 'text')} looked at)" if len(texts) > 1 else ""
        return f"it does not fit {text}{more}: {self._fit(text, outline, weights, key)}"

    def _without_weights(self, pairs: Iterable[Pair]) -> Iterator[LeftOut]:
        models = {pair.model for pair in pairs}
        for paths in self._sources.texts.values():
            for path in paths:
                content = self._texts[path]
                if isinstance(content, NotANet):
                    yield LeftOut(path, content.why)
                elif path not in models:
                    kind = "a net for training" if content.training else "a net"
                    yield LeftOut(path, f"{kind}, no weights go with it")


def _stem(path: str) -> str:
    stem = os.path.splitext(os.path.basename(path))[0]
    return stem[: -len(".caffemodel")] if stem.endswith(".caffemodel") else stem


def _plain_stem(path: str, added: "re.Pattern[str]") -> str:
    """The stem without what is added to it for a snapshot, or for a text to deploy."""
    return added.sub("", _stem(path)).lower()


def files_to_read(sources: Sources) -> Tuple[List[str], List[str]]:
    """The texts and the weights that pairing looks at, each once."""
    texts = [path for paths in sources.texts.values() for path in paths]
    weights = [path for paths in sources.weights.values() for path in paths]
    for text, beside in sources.named.items():
        texts.append(text)
        weights += beside
    return list(dict.fromkeys(texts)), list(dict.fromkeys(weights))
