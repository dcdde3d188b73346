"""How sharp validation is: ``python -m benchmarks.sharpness FOLDER... [--places N]``.

Each pair of the folders is merged. The merged pair must pass, on values of deviation 128 and of
deviation 1. Then it is made wrong in one place drawn by chance, once for each place, and must fail,
with no flags; or it is merged with another eps than the net's. What does not fail is told with how
far it moves an output, on other values, relative to the output's largest.

A text without weights, of tests/corpus.json, gets seeded ones. All is done by the reference engine.
"""

import argparse
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

import caffe_merge
from caffe_merge.errors import CaffeMergeError
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers.catalogue import CONVOLUTION, DECONVOLUTION, DEPTHWISE, PRODUCT, of_family
from caffe_merge.net import saving
from caffe_merge.validation import Comparison, black_boxes, inputs, registry
from caffe_merge.validation.judging import Judging
from caffe_merge.validation.reference_judge import judged
from caffe_merge.validation.run import input_shapes, outputs, program, run

LINEAR = frozenset(of_family(CONVOLUTION, DEPTHWISE, DECONVOLUTION, PRODUCT))
SCALES = (128.0, 1.0)  # of what right pairs are run on
DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits" / "test_images.npz"
SMALL, LARGE = 1e-5, 1e-3  # what a net's eps may be taken for


Pair = Tuple[str, str]


class Kind(NamedTuple):
    """A way to be wrong: in which blob, in one channel of it or one value, and by how much."""

    name: str
    blob: int
    channel: bool
    factor: float


KINDS = (
    Kind("one channel by 1 %", 0, True, 1.01),
    Kind("one channel by 0.1 %", 0, True, 1.001),
    Kind("one weight by 0.1 %", 0, False, 1.001),
    Kind("one bias by 0.1 %", 1, False, 1.001),
)
EPS = "wrong eps (1e-5 for 1e-3, or the other way)"


class Subject(NamedTuple):
    """A pair, what it is merged to, and how both are compared."""

    name: str
    before: Pair
    after: Pair
    judging: Judging


class Tally:
    """What came out, by kind: how many of each verdict, and the furthest that was not found."""

    def __init__(self) -> None:
        self.verdicts: Dict[str, Counter[str]] = {}
        self.missed: Dict[str, List[float]] = {}

    def add(self, kind: str, status: str, moved: Optional[float] = None) -> None:
        self.verdicts.setdefault(kind, Counter())[status] += 1
        if moved is not None:
            self.missed.setdefault(kind, []).append(moved)

    def rows(self) -> Iterator[str]:
        """The lines of a table in Markdown."""
        yield "| pair | runs | passed | failed | inconclusive | furthest move, not failed |"
        yield "|---|---|---|---|---|---|"
        for kind, counts in self.verdicts.items():
            cells = [sum(counts.values()), *map(counts.__getitem__, ("passed", "failed"))]
            cells.append(counts["inconclusive"])
            far = f"{np.nanmax(self.missed[kind]):.1e}" if kind in self.missed else ""
            yield f"| {kind} | {' | '.join(map(str, cells))} | {far} |"


def noise(
    name: str, shape: Tuple[int, ...], *, seed: int, scale: Optional[float], positive: bool
) -> np.ndarray:
    """Values as validation makes them, of a seed that it has not."""
    array = inputs.noise(name, shape, seed, scale)
    return np.abs(array) if positive else array


def digits(_name: str, shape: Tuple[int, ...], *, white: float, shift: float) -> np.ndarray:
    """Images of written digits, four times as large, side by side; of what is no image, noise."""
    if len(shape) != 4:
        return noise(_name, shape, seed=94, scale=1.0, positive=False)
    with np.load(DIGITS) as test:
        images = test["images"][:, 0] * np.float32(white / 16)
    rows, columns = (-(-side // 32) for side in shape[2:])
    count = shape[0] * shape[1] * rows * columns
    tiles = images[np.arange(count) % len(images)].repeat(4, axis=1).repeat(4, axis=2)
    tiles = tiles.reshape(*shape[:2], rows, columns, 32, 32).swapaxes(3, 4)
    whole = tiles.reshape(*shape[:2], 32 * rows, 32 * columns)[:, :, : shape[2], : shape[3]]
    return np.asarray(whole + np.float32(shift))


# The values on which an output may move, of an input's name and shape. Validation has none of them.
Feed = Callable[[str, Tuple[int, ...]], np.ndarray]
OTHERS: Tuple[Feed, ...] = (
    partial(noise, seed=99, scale=None, positive=False),
    partial(noise, seed=98, scale=None, positive=True),
    partial(noise, seed=97, scale=1.0, positive=False),
    partial(noise, seed=96, scale=1.0, positive=True),
    partial(noise, seed=95, scale=0.1, positive=False),
    partial(digits, white=255, shift=-128),
    partial(digits, white=1, shift=0),
)


def compare(subject: Subject, after: Pair, scale: Optional[float] = None) -> Comparison:
    """The verdict on ``after``, in this process."""
    row = registry.engine("reference")
    judging = subject.judging._replace(scale=scale)
    *_, comparison = judged(subject.before, after, judging, row.limit, row.most)
    assert isinstance(comparison, Comparison)
    return comparison


def right(subject: Subject, tally: Tally) -> None:
    """The pair as it is merged, on large values and on small ones."""
    for scale in SCALES:
        comparison = compare(subject, subject.after, scale)
        tally.add(f"right, deviation {scale:g}", comparison.status)
        if not comparison.ok:
            what = f"right, deviation {scale:g}"
            print(f"{subject.name}: {what}: {comparison.status}: {comparison.reason}")


def wrong_places(subject: Subject, tally: Tally, places: int, work: Path) -> None:
    """The merged pair with one place wrong, ``places`` times for each kind, in as many layers."""
    random = np.random.default_rng(0)
    layers = [n for n, layer in enumerate(load(subject.after).layers) if is_free(layer)]
    for kind in KINDS:
        for index in np.resize(random.permutation(layers), places if layers else 0):
            net = load(subject.after)
            layer = net.layers[index]
            place = draw(layer, kind, random)
            if place is None:
                continue
            blobs = [np.array(blob.float64()) for blob in layer.blobs]
            blobs[kind.blob][place] *= kind.factor
            layer.blobs = tuple(Dense(np.asarray(blob, np.float32)) for blob in blobs)
            place_text = f"{kind.name}: {layer.name}, blob {kind.blob}, {place}"
            must_fail(subject, saved(net, work), kind.name, tally, place_text)


def is_free(layer: Any) -> bool:
    """Whether a layer is linear, and its weights are its own: those with a name may be shared."""
    return layer.type in LINEAR and not any(param.name for param in layer.param.param)


def draw(layer: Any, kind: Kind, random: np.random.Generator) -> Optional[Tuple[int, ...]]:
    """A channel or a value of the layer that is not 0, as an index; None where there is none."""
    if kind.blob >= len(layer.blobs):
        return None
    values = layer.blobs[kind.blob].float64()
    if kind.channel:
        values = np.abs(values).reshape(len(values), -1).max(axis=1)
    nonzero = np.argwhere(values)
    return tuple(int(n) for n in nonzero[random.integers(len(nonzero))]) if len(nonzero) else None


def wrong_eps(subject: Subject, tally: Tally, work: Path) -> None:
    """The pair merged as if the eps of every BatchNorm were another, as scripts have it."""
    net = load(subject.before)
    norms = [layer for layer in net.layers if layer.type == "BatchNorm"]
    if not norms:
        return
    for layer in norms:
        param = layer.param.batch_norm_param
        param.eps = SMALL if param.eps > 10 * SMALL else LARGE
    caffe_merge.merge(net)
    must_fail(subject, saved(net, work), EPS, tally, EPS)


def must_fail(subject: Subject, after: Pair, kind: str, tally: Tally, place_text: str) -> None:
    """Compare; where nothing differs, see how far an output moves."""
    comparison = compare(subject, after)
    moved = None if comparison.status == "failed" else furthest(subject, after)
    tally.add(kind, comparison.status, moved)
    if moved is not None:
        print(
            f"{subject.name}: {place_text}: {comparison.status}, an output moves by {moved:.1e}",
            flush=True,
        )


def furthest(subject: Subject, after: Pair) -> float:
    """How far an output moves at most from that of the right merge, of its largest value.

    What a black box reads counts as an output. NaN where none can be computed.
    """
    moves = [
        float(np.abs(wrong[name] - right[name]).max() / np.abs(right[name]).max())
        for feed in OTHERS
        for right, wrong in [[given_out(subject, pair, feed) for pair in (subject.after, after)]]
        for name in right
        if np.abs(right[name]).max()
    ]
    return max(moves, default=float("nan"))


def given_out(subject: Subject, pair: Pair, feed: Feed) -> Dict[str, np.ndarray]:
    """The outputs of a pair, on other values than it is validated with."""
    layers = load(pair).layers
    params = [layer.param for layer in layers]
    shapes = {name: tuple(shape) for name, shape in input_shapes(params)}
    shapes.update({n: s for n, s in (subject.judging.shapes or {}).items() if n in shapes})
    fed = {name: feed(name, shape) for name, shape in shapes.items()}
    boxes = [params[index] for index in black_boxes.unknown(program(layers))]
    names = {*outputs(params), *(name for param in boxes for name in param.bottom)}
    return {n: array for n, array, _ in run(layers, fed) if n in names and array is not None}


def load(pair: Pair) -> Any:
    """A pair as a net."""
    return caffe_merge.load(*pair)


def saved(net: Any, work: Path) -> Pair:
    """The net as files, in the place of those of the last call."""
    pair = work / "wrong.prototxt", work / "wrong.caffemodel"
    for path in pair:
        if path.exists():
            path.unlink()
    caffe_merge.save(net, *map(str, pair))
    return str(pair[0]), str(pair[1])


def subjects(folders: Sequence[Path], work: Path) -> Iterator[Subject]:
    """The pairs of the folders, merged in ``work``."""
    for model in sorted(path for folder in folders for path in folder.glob("*.prototxt")):
        for path in work.iterdir():
            path.unlink()
        weights: Optional[Path] = model.with_suffix(".caffemodel")
        candidates = list(model.parent.glob("*.caffemodel"))
        if weights not in candidates:
            weights = candidates[0] if len(candidates) == 1 else None
        try:
            subject = prepared(model, weights, work)
        except CaffeMergeError as error:
            print(f"{model}: left out: {error}", flush=True)
            continue
        if subject is not None:
            yield subject


def prepared(model: Path, weights: Optional[Path], work: Path) -> Optional[Subject]:
    """One pair and what it is merged to; None for a text without weights that nobody tells of."""
    from tests.corpus.test_corpus import MANIFEST, edited, filled
    from tests.corpus.test_corpus import load as load_text

    facts = MANIFEST.get(model.stem, {})
    if not facts and weights is None:
        return None
    text = work / "edited.prototxt"
    content = model.read_text("utf-8", "surrogateescape")
    text.write_text(edited(content, facts.get("edits", {})), "utf-8", "surrogateescape")
    net = load_text(text, facts.get("flags", ""))
    weights = weights or filled(net, facts, work)
    before = str(work / "before.prototxt"), str(weights)
    Path(before[0]).write_bytes(saving.text(net))
    shapes = {name: tuple(shape) for name, shape in facts.get("feed", {}).items()}
    for index in black_boxes.unknown(program(net.layers)):
        layer = net.layers[index]
        if layer.name in facts.get("tops", {}):
            shapes.update(dict.fromkeys(layer.param.top, tuple(facts["tops"][layer.name])))
    merged = load(before)
    caffe_merge.merge(merged)
    after = str(work / "after.prototxt"), str(work / "after.caffemodel")
    caffe_merge.save(merged, *after)
    return Subject(model.stem, before, after, Judging(shapes=shapes or None))


def main() -> None:
    """The table, of all pairs together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="with pairs, or texts of the corpus")
    parser.add_argument("--places", type=int, default=3, help="wrong places of each kind and pair")
    options = parser.parse_args()
    tally, count = Tally(), 0
    with tempfile.TemporaryDirectory() as folder:
        pairs, work = Path(folder, "pair"), Path(folder, "wrong")
        pairs.mkdir()
        work.mkdir()
        for subject in subjects(options.folders, pairs):
            count += 1
            print(f"{subject.name} ...", flush=True)
            try:
                right(subject, tally)
                wrong_places(subject, tally, options.places, work)
                wrong_eps(subject, tally, work)
            except CaffeMergeError as error:
                print(f"{subject.name}: not run: {error}", flush=True)
    print(f"\n{count} pairs\n", *tally.rows(), sep="\n")


if __name__ == "__main__":
    main()
