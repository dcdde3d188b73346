"""Runs the passes on a net: find, prove, apply, check; to a fixed point."""

from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from caffe_merge.affine import factor_is_zero
from caffe_merge.errors import UsageError
from caffe_merge.graph import Graph, Version
from caffe_merge.layer import Layer, Note
from caffe_merge.net import Net
from caffe_merge.passes import PASSES
from caffe_merge.passes.base import Pass, Refused, Rewrite
from caffe_merge.proof import prove
from caffe_merge.report import Refusal, Report
from caffe_merge.shapes import Shape


def merge(
    net: Net,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    keep: Sequence[str] = (),
    input_shapes: Optional[Mapping[str, Shape]] = None,
) -> Report:
    """Rewrite ``net`` in place; the report names every change and every refusal.

    ``only`` and ``skip`` name passes, ``keep`` names layers that stay as they are. Raises
    UsageError for a name that is none, NetError for a net that Caffe would not build, WeightsError
    where a value is not finite or a variance negative.
    """
    passes = _chosen(net, only, skip, frozenset(keep))
    graph = Graph(net.layers, input_shapes or {})
    report = Report(net, graph)
    for layer in net.layers:
        if layer.type == "BatchNorm" and factor_is_zero(layer):
            text = "its scale factor is 0: Caffe takes its mean and variance as 0, and so do we"
            report.notes.append(Note("zero-factor", layer.name, text))
    editor = _Editor(net, graph, report)
    while True:
        done = len(report.changes)
        editor.refusals.clear()
        for one in passes:
            editor.run(one)
        if len(report.changes) == done:
            break
    left_out = sum(not layer.active for layer in net.all_layers)
    if left_out and report.changes:
        text = (
            f"{left_out} layers are for other states and stay as they were; blobs that they read "
        )
        text += "may be gone: the merged text is for this phase, level and stage alone"
        report.notes.append(Note("other-states", "", text))
    report.finish(graph, editor.refusals)
    return report


def check_names(only: Sequence[str], skip: Sequence[str]) -> None:
    """Raise UsageError for a name that is no pass's."""
    known = [one.name for one in PASSES]
    for name in (*only, *skip):
        if name not in known:
            raise UsageError(f"no pass is called {name!r}; there are {', '.join(known)}")


def _chosen(net: Net, only: Sequence[str], skip: Sequence[str], keep: FrozenSet[str]) -> List[Pass]:
    check_names(only, skip)
    if net.index is None:
        raise UsageError(f"{net.document.path}: loaded without weights, so nothing can be merged")
    names = {layer.name for layer in net.layers}
    for name in sorted(keep - names):
        raise UsageError(f"--keep {name}: the net has no layer of this name")
    return [one(keep) for one in PASSES if (not only or one.name in only) and one.name not in skip]


class _Editor:
    """Applies rewrites and writes them down; the only place that changes a net."""

    def __init__(self, net: Net, graph: Graph, report: Report) -> None:
        self.net = net
        self.graph = graph
        self.report = report
        self.refusals: Dict[Layer, List[Refusal]] = {}
        self.disproved: Dict[Tuple[str, Tuple[Layer, ...]], str] = {}

    def run(self, one: Pass) -> None:
        """Find what ``one`` would do, and do what can be proved."""
        found = one.find(self.graph)
        rewrites = [item for item in found if isinstance(item, Rewrite)]
        for item in found:
            if isinstance(item, Refused):
                self._refuse(one, item.layer, item.reason)
        for rewrite in rewrites:
            self._try(one, rewrite)
        if rewrites:
            self.graph.check()

    def _try(self, one: Pass, rewrite: Rewrite) -> None:
        reason = self._disproof(one, rewrite)
        if reason is None and not rewrite.changes:
            # Rewrites made since this one was found may have brought a net input nearer.
            reasons = [self.graph.why_not_bypass(layer) for layer in rewrite.removed]
            reason = next(filter(None, reasons), None)
        if reason is None:
            self._apply(one, rewrite)
            return
        for layer in rewrite.path:
            self._refuse(one, layer, reason)

    def _disproof(self, one: Pass, rewrite: Rewrite) -> Optional[str]:
        """Why the proof of ``rewrite`` fails, if it does; a failure is remembered."""
        known = self.disproved.get((one.name, rewrite.path))
        if known is not None:
            return known
        failure = prove(rewrite.path, rewrite.changes, self._rank(rewrite))
        if failure is None:
            return None
        reason = self.disproved[one.name, rewrite.path] = f"the proof failed: {failure}"
        return reason

    def _rank(self, rewrite: Rewrite) -> Optional[int]:
        return self.graph.bottoms[rewrite.path[0]][0].rank

    def _apply(self, one: Pass, rewrite: Rewrite) -> None:
        self.report.add(one.name, rewrite)
        source = self.graph.bottoms[rewrite.path[0]][0]
        passed = [self.graph.tops[layer][0].name for layer in rewrite.path]
        names = [layer.name for layer in rewrite.path]
        for layer, (param, blobs) in rewrite.changes.items():
            # Names are the graph's; those of the rewrite are of when it was found.
            for field in ("bottom", "top"):
                param.ClearField(field)
                getattr(param, field).extend(getattr(layer.param, field))
            layer.param = param
            layer.blobs = blobs
            layer.extra = _still_there(layer.extra, param)
            layer.sources = tuple(dict.fromkeys((*layer.sources, *names)))
        for layer in rewrite.removed:
            self.graph.bypass(layer, rename=not rewrite.changes)
            self.net.all_layers.remove(layer)
        for layer in rewrite.changes:
            self._name(self.graph.tops[layer][0], source, passed)

    def _name(self, end: Version, source: Version, passed: Sequence[str]) -> None:
        """Name what a rewritten path gives out, so that no name comes to mean another value.

        ``passed`` are the names along the old path, the last of them that of what it gave out. If
        it wrote a step between over its input, nobody may find the input under that name now.
        """
        if end.name != passed[-1]:
            self.graph.rename(end, passed[-1])
        if source.name in passed[:-1] and source.name != passed[-1]:
            self.graph.rename_all(source, passed[-1])

    def _refuse(self, one: Pass, layer: Layer, reason: str) -> None:
        refusal = Refusal(one.name, layer.name, layer.type, reason)
        self.refusals.setdefault(layer, []).append(refusal)


def _still_there(extra: Dict[str, str], param: Any) -> Dict[str, str]:
    """The fork's fields that are left: those of messages that ``param`` has no more are gone."""
    return {
        name: value
        for name, value in extra.items()
        if "." not in name or param.HasField(name.split(".")[0])
    }
