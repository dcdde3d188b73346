"""What ``--equalize`` does for weights of 8 bits: the outputs' signal-to-noise ratio.

    python -m benchmarks.int8 [--folder F] [P W ...]

Each pair is merged without and with it. The weights of all linear layers are rounded to 8 bits with
one scale per tensor, symmetric. The nets run in float64 on the same seeded inputs, and each output
is compared with that of the net that is not rounded. Without pairs of your own it is two MobileNets
with seeded weights.
"""

import argparse
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

import numpy as np

import caffe_merge
from benchmarks.building import Pair, write_pair
from benchmarks.nets import MOBILE
from caffe_merge.algebra.ranges import LEVELS
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers import ranges
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net
from caffe_merge.validation import run as running

SEEDS = (0, 1, 2)


class Measured(NamedTuple):
    """A merged net in 8 bits: the SNR of its outputs in dB, and its worst layer."""

    decibels: float
    to_median: float
    rescaled: int


def measure(pair: Pair, equalize: bool) -> Measured:
    """Merge ``pair``, round its weights, and compare the outputs: the mean over all outputs."""
    net = caffe_merge.load(*map(str, pair))
    report = caffe_merge.merge(net, equalize=equalize)
    worst = ranges.worst(net.layers)
    inputs = [_inputs(net, seed) for seed in SEEDS]
    exact = [_outputs(net, values) for values in inputs]
    _round(net)
    rounded = [_outputs(net, values) for values in inputs]
    ratios = [_ratio(old[name], new[name]) for old, new in zip(exact, rounded) for name in old]
    rescaled = {name for change in report.changes if change.rewrite == "equalize"
                for name in change.changed}  # fmt: skip
    return Measured(float(np.mean(ratios)), worst.to_median if worst else 1.0, len(rescaled))


def _ratio(old: np.ndarray, new: np.ndarray) -> float:
    return float(10 * np.log10(np.square(old).sum() / np.square(new - old).sum()))


def _inputs(net: Net, seed: int) -> Dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    graph = net.graph()
    tops = [top for layer in graph.layers if not graph.bottoms[layer] for top in graph.tops[layer]]
    return {top.name: random.standard_normal(top.shape) for top in tops}


def _outputs(net: Net, inputs: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    names = {version.name for version in Graph(net.layers).outputs}
    values = running.run(net.layers, inputs)
    return {name: array for name, array, _ in values if name in names and array is not None}


def _round(net: Net) -> None:
    """Round the weights of the linear layers to 8 bits, one scale for each layer."""
    for layer in net.layers:
        if layer.type in LINEAR_TYPES:
            weights = layer.blobs[0].array().astype(np.float64)
            step = np.abs(weights).max() / LEVELS
            layer.blobs = (Dense(np.rint(weights / step) * step), *layer.blobs[1:])


def table(pairs: Sequence[Pair]) -> None:
    """Print a line for each pair."""
    print(f"{'':16}  {'merged':>8}  {'--equalize':>10}            worst layer, largest / median")
    for pair in pairs:
        old, new = (measure(pair, equalize) for equalize in (False, True))
        gain = new.decibels - old.decibels
        print(
            f"{pair[0].stem:16}  {old.decibels:5.1f} dB  {new.decibels:7.1f} dB  {gain:+5.1f} dB  "
            f"{old.to_median:6.1f} -> {new.to_median:.1f}, {new.rescaled} layers rescaled"
        )


def main() -> None:
    """The pairs of the command line, or those that are made here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/bench"), help="for the pairs")
    parser.add_argument("pairs", nargs="*", type=Path, metavar="P W")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    paths: List[Path] = options.pairs
    pairs = list(zip(paths[::2], paths[1::2]))
    table(pairs or [write_pair(options.folder, name, build) for name, build in MOBILE.items()])


if __name__ == "__main__":
    sys.exit(main())
