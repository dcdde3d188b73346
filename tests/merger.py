"""The one check that every merge in the tests goes through, and what came of the merge."""

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

import caffe_merge
from caffe_merge.arrays import count
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers import shapes
from caffe_merge.layers.catalogue import that
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.layers.norms import choose_style
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.merging.report import TRACKED, Fate, Report, Size
from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net
from caffe_merge.passes import PASSES
from caffe_merge.passes.forms import FORMS
from caffe_merge.validation import run as running
from tests.nets import Pair, load_pair, prototxt, seeded, write_pair
from tests.real_caffe import RealCaffe

Arrays = Dict[str, np.ndarray]  # blob name -> values

# Types that BVLC Caffe has not, or, as Clip, only since its last release.
FORKS = {*that("fork"), "Clip", "Python"}


class Merged(NamedTuple):
    """A net before and after a merge, both as read from disk, and the report."""

    before: Net
    after: Net
    report: Report
    text: str

    @property
    def names(self) -> List[str]:
        """The layers left, inputs apart."""
        return [layer.name for layer in self.after.layers if layer.type != "Input"]

    def layer(self, name: str) -> Layer:
        """The layer of this name, after."""
        return next(layer for layer in self.after.layers if layer.name == name)

    def fate(self, name: str) -> Fate:
        """What the report says became of a layer."""
        return next(fate for fate in self.report.fates if fate.layer == name)

    def blobs(self, name: str) -> List[np.ndarray]:
        """A layer's blobs, after."""
        return [np.array(blob.float64()) for blob in self.layer(name).blobs]

    def refused(self, name: str, pattern: str) -> None:
        """Assert that nothing changed for a layer, and that the reason says ``pattern``."""
        old = next(layer for layer in self.before.layers if layer.name == name)
        assert name in self.names, f"{name} is gone: {self.fate(name)}"
        new = self.layer(name)
        for side in (old.param, new.param):  # what is around it may be renamed
            side.ClearField("bottom")
            side.ClearField("top")
        assert new.param == old.param
        assert _bits(new) == _bits(old)
        reasons = [refusal.reason for refusal in self.report.refusals if refusal.layer == name]
        said = [reason for reason in reasons if re.search(pattern, reason)]
        assert said, reasons
        if old.type in TRACKED:
            assert self.fate(name).fate == "kept"
            is_minor = all(reason.minor for reason in said)  # and told where there is no other
            assert is_minor or re.search(pattern, self.fate(name).detail), self.fate(name)


class Merger:
    """Merges nets through files on disk, and checks what holds for every merge."""

    def __init__(self, folder: Path, caffe: Optional[RealCaffe]) -> None:
        self.folder = folder
        self.caffe = caffe
        self.count = 0

    def __call__(
        self,
        *lines: str,
        weights: Optional[Mapping[str, Optional[Sequence[np.ndarray]]]] = None,
        seed: int = 0,
        limit: float = 1e-6,
        **options: Any,
    ) -> Merged:
        """Merge the net of ``lines`` (see `prototxt`), or of the text that is their only one.

        ``weights`` replaces those of a layer, None takes them out of the file; ``options`` are
        those of caffe_merge.merge.
        """
        is_text = lines[0].lstrip().startswith(("layer", "name", "#"))
        text = lines[0] if is_text else prototxt(*lines)
        values: Dict[str, Any] = dict(seeded(text, seed))
        values.update(weights or {})
        self.count += 1
        stem = f"net{self.count}"
        blobs = {name: arrays for name, arrays in values.items() if arrays is not None}
        pair = write_pair(self.folder, text, blobs, stem)
        original = [path.read_bytes() for path in pair]
        new = self._merge(pair, stem + "_merged", options)
        assert [path.read_bytes() for path in pair] == original, "an input was touched"
        again = self._merge(new.pair, stem + "_again", options)
        assert [change.note for change in again.report.changes] == [], "not idempotent"
        for once, twice in zip(new.pair, again.pair):
            assert once.read_bytes() == twice.read_bytes(), "a second merge gives other bytes"
        before, after = (load_pair(files) for files in (pair, new.pair))
        _check_interface(before, after)
        _check_report(before, after, new.report)
        _check_shared(after)
        for net in (before, after):
            _check_left_out(net)
        if not options.keys() & {"serial", "affine_as", "mean", "scale", "swap_rgb"}:
            assert _kernels(after) <= _kernels(before) + _ones(after, new.report), "kernels grew"
        self._check_numbers(pair, new.pair, limit, options.get("bn_style"))
        return Merged(before, after, new.report, new.pair[0].read_text(encoding="utf-8"))

    def _merge(self, pair: Pair, stem: str, options: Mapping[str, Any]) -> "_Step":
        net = load_pair(pair)
        report = caffe_merge.merge(net, **options)
        out = self.folder / f"{stem}.prototxt", self.folder / f"{stem}.caffemodel"
        caffe_merge.save(net, str(out[0]), str(out[1]))
        return _Step(out, report)

    def _check_numbers(self, old: Pair, new: Pair, limit: float, style: Optional[str]) -> None:
        """Every blob that both nets have must be equal: in float64, and in real Caffe."""
        net, merged = load_pair(old), load_pair(new)
        for item in (net, merged):
            choose_style(item.layers, style)
        inputs = random_inputs(net)
        before = run(net, inputs)
        freed = freed_inputs(net, merged, inputs, before)
        after = without(run(merged, inputs), freed)
        try:
            assert_equal(before, after, limit)
        except AssertionError:
            # Where large values cancel, the one rounding of the new weights may be more than that.
            assert_equal(before, after, limit, _rounding(net, inputs, before))
        of_a_fork = any(
            layer.type in FORKS
            or (layer.type == "BatchNorm" and len(layer.blobs) > 3)
            or shapes.blobs(LayerSpec(layer.param), None) is None
            for layer in (*net.layers, *merged.layers)
        )
        strange = {note.kind for note in net.notes} & {"missing-weights", "unknown-field"}
        if self.caffe is None or strange or of_a_fork or style is not None:
            return  # Caffe does not know its layers, or fields, or runs it on random weights
        after = without(self.caffe.forward_pair(*new, inputs), freed)
        assert_equal(self.caffe.forward_pair(*old, inputs), after, 1e-5)


class _Step(NamedTuple):
    pair: Pair
    report: Report


def random_inputs(net: Net) -> Arrays:
    """Float32 noise for every Input of ``net``."""
    random = np.random.default_rng(7)
    graph = Graph(net.layers, {})
    out = {}
    for layer in net.layers:
        for version in graph.tops[layer]:
            if layer.type == "Input":
                out[version.name] = random.standard_normal(version.shape).astype(np.float32)
    return out


def freed_inputs(net: Net, merged: Net, inputs: Arrays, before: Arrays) -> Set[str]:
    """The net inputs that hold what came in, where ``net`` wrote over them and ``merged`` does not.

    ``before`` are the values of ``net`` in the end: what was written may be the same.
    """
    names = _written_over(net) - _written_over(merged)
    return {name for name in names if not np.array_equal(before[name], inputs[name])}


def _written_over(net: Net) -> Set[str]:
    """The net inputs that a layer writes in place."""
    tops = [(layer.type == "Input", name) for layer in net.layers for name in layer.param.top]
    arguments = {name for is_input, name in tops if is_input}
    return arguments & {name for is_input, name in tops if not is_input}


def without(values: Arrays, names: Set[str]) -> Arrays:
    """``values`` but for those of ``names``."""
    return {name: array for name, array in values.items() if name not in names}


def run(net: Net, inputs: Arrays) -> Arrays:
    """What each blob name of ``net`` holds in the end, in float64; unknown ones are left out."""
    values = running.run(net.layers, inputs)
    return {name: array for name, array, _ in values if array is not None}


def _rounding(net: Net, inputs: Arrays, values: Arrays) -> Dict[str, float]:
    """Blob name -> ten times as much as its ``values`` move when weights do by a float32 rounding.

    The layers of ``net`` hold the moved weights then.
    """
    random = np.random.default_rng(7)
    for layer in net.layers:
        exact = [blob.float64() for blob in layer.blobs]
        signs = [random.choice([-1, 1], array.shape) for array in exact]
        layer.blobs = tuple(Dense(a * (1 + 2.0**-24 * sign)) for a, sign in zip(exact, signs))
    moved = run(net, inputs)
    return {name: 10 * np.abs(moved[name] - array).max(initial=0) for name, array in values.items()}


def assert_equal(
    before: Arrays, after: Arrays, limit: float, more: Optional[Mapping[str, float]] = None
) -> None:
    """Every blob that both have is equal, but for ``limit`` of its largest value and ``more``."""
    common = set(before) & set(after)
    assert common
    for name in sorted(common):
        old, new = before[name].astype(np.float64), after[name].astype(np.float64)
        assert old.shape == new.shape, name
        assert np.isfinite(old).all(), name
        error = float(np.max(np.abs(new - old), initial=0.0))
        largest = float(np.max(np.abs(old), initial=0.0))
        allowed = limit * largest + (more or {}).get(name, 0.0) + 1e-30
        assert error <= allowed, f"{name}: {error:.2e} of {largest:.2e}"


def _check_interface(before: Net, after: Net) -> None:
    """Net inputs and outputs keep their names and shapes; nothing else becomes one."""
    old, new = Graph(before.layers, {}), Graph(after.layers, {})
    was = {output.name: output.shape for output in old.outputs}
    now = {output.name: output.shape for output in new.outputs}
    assert set(was) == set(now)
    # A fork's layer between leaves shapes unknown; once it is gone they are known.
    assert all(now[name] == shape for name, shape in was.items() if shape is not None)
    for graph in (old, new):
        graph.check()
    inputs = [
        [list(layer.param.top) for layer in net.layers if layer.type == "Input"]
        for net in (before, after)
    ]
    assert inputs[0] == inputs[1]


def _check_left_out(net: Net) -> None:
    """A pass that is not tried, as no layer is of its types, would have found nothing."""
    graph = Graph(net.layers, {})
    types = {layer.type for layer in graph.layers}
    for listed in PASSES:
        assert listed.may_find(types) or listed().find(graph) == []


def _check_report(before: Net, after: Net, report: Report) -> None:
    """Every layer of the tracked types has a fate, and the fate is true."""
    tracked = [(layer.name, layer.type) for layer in before.layers if layer.type in TRACKED]
    assert [(fate.layer, fate.type) for fate in report.fates] == tracked
    # The proof is the last resort: what a pass proposes should be right.
    assert not [refusal for refusal in report.refusals if "proof failed" in refusal.reason]
    left = {layer.name: layer for layer in after.layers}
    old = {layer.name: layer for layer in before.layers}
    changed = {name for change in report.changes for name in (*change.changed, *change.removed)}
    changed.update(name for change in report.changes for name in change.added)
    for fate in report.fates:
        assert fate.detail
        assert (fate.fate == "gone") == (fate.layer not in left), fate
        assert (fate.fate == "kept") == (fate.layer not in changed), fate
    assert report.after == Size.of(Graph(after.layers, {})), "shapes were lost on the way"
    for name, layer in left.items():
        if name not in changed:
            assert _bits(layer) == _bits(old[name]), f"the blobs of {name} changed unreported"
            assert layer.type == old[name].type
    assert report.before.layers - report.after.layers == len(old) - len(left)
    for layer in after.layers:
        if layer.type == "BatchNorm" and not _changes_order(report) and not _has_forms(report):
            assert next(fate for fate in report.fates if fate.layer == layer.name).fate == "kept"


def _has_forms(report: Report) -> bool:
    """Whether layers were put in another form for a target, which may stay what they were."""
    return bool({change.rewrite for change in report.changes} & {form.name for form in FORMS})


def _check_shared(after: Net) -> None:
    """All records say the same of a blob that their layers share: any may be read last."""
    held: Dict[str, List[bytes]] = {}
    records = after.index.by_name() if after.index else {}
    for layer in after.layers:
        blobs = records[layer.name].blobs if layer.name in records else ()
        for spec, blob in zip(layer.param.param, blobs):
            if spec.name:
                held.setdefault(spec.name, []).append(blob.array().tobytes())
    for name, values in held.items():
        assert len(set(values)) == 1, f"the layers that share {name!r} have other values of it"


def _kernels(net: Net) -> int:
    """The values in the kernels of all linear layers, biases and what is per channel apart."""
    linear = [layer for layer in net.layers if layer.type in LINEAR_TYPES and layer.blobs]
    return sum(count(layer.blobs[0].shape) for layer in linear)


def _ones(net: Net, report: Report) -> int:
    """The values of the layers that raise-stride put in."""
    added = {name for change in report.changes for name in change.added}
    return sum(layer.parameters for layer in net.layers if layer.name in added)


def _changes_order(report: Report) -> bool:
    """Whether a pass was at work that may change a BatchNorm and leave it one."""
    return any(change.rewrite in ("fold-swap", "drop-dead-channels") for change in report.changes)


def _bits(layer: Layer) -> List[Tuple[Tuple[int, ...], bytes]]:
    return [(blob.shape, np.ascontiguousarray(blob.array()).tobytes()) for blob in layer.blobs]
