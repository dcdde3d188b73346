"""Runs the passes on a net: find, prove, apply, check; to a fixed point."""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import UsageError
from caffe_merge.layers import norms
from caffe_merge.layers.layer import Layer
from caffe_merge.merging import raw_input
from caffe_merge.merging.report import Refusal, Report
from caffe_merge.merging.rewiring import rewire
from caffe_merge.merging.sharing import Batch, settle, unshared
from caffe_merge.net import pixels
from caffe_merge.net.deployment import check_data
from caffe_merge.net.graph import Graph
from caffe_merge.net.joining import shared_blobs
from caffe_merge.net.loading import Net
from caffe_merge.notes import Note
from caffe_merge.passes import PASSES
from caffe_merge.passes._pass import AFFINE_AS, SERIAL, Options, Pass, Refused, Rewrite
from caffe_merge.proof import prove


def merge(
    net: Net,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    keep: Sequence[str] = (),
    keep_shared: bool = False,
    bn_style: Optional[str] = None,
    serial: str = "auto",
    affine_as: Optional[str] = None,
    mean: pixels.Value = None,
    scale: pixels.Value = None,
    swap_rgb: Union[bool, str] = False,
    input_layer: bool = False,
    input_shapes: Optional[Mapping[str, Shape]] = None,
) -> Report:
    """Rewrite ``net`` in place; the report names every change and every refusal.

    ``only`` and ``skip`` name passes, ``keep`` names layers that stay as they are, ``keep_shared``
    refuses what would unshare weights, ``bn_style`` names the fork's style of the BatchNorm-like
    layers that it fits (docs/forks.md), ``serial`` is "auto", "always" or "never" (see
    merge-serial), ``affine_as`` "conv" or "scale" (see affine-as). Raises UsageError for a name or
    choice that is none, NetError for a net that Caffe would not build, WeightsError where a value
    is not finite or a variance negative.

    With ``mean``, ``scale`` or ``swap_rgb`` (net.pixels) the net takes raw pixels where it
    took what these make of them. What cannot be folded exactly is left as a layer on the input
    with ``input_layer``, else it is a UsageError, and ``net`` of no further use.
    """
    for layer in net.layers:
        layer.remembered.clear()  # of before its parameters were edited, perhaps
    unfit = _choose_style(net, bn_style)
    passes = _chosen(net, only, skip, Options(frozenset(keep), keep_shared, serial, affine_as))
    others = [layer.param for layer in net.all_layers if not layer.active]
    check_data([layer.param for layer in net.layers], others)
    graph = Graph(net.layers, {**net.input_shapes, **(input_shapes or {})})
    report = Report(net, graph)
    report.notes += [*unfit, *norms.notes(net.layers)]
    names = shared_blobs(graph.layers)
    wanted = pixels.wanted(mean, scale, swap_rgb)
    if input_layer and wanted is None:
        raise UsageError(
            "--input-layer: there is no --mean, --scale or --swap-rgb to be a layer of"
        )
    raw = None if wanted is None else raw_input.put_in(net, graph, wanted)
    if raw is not None:
        graph = Graph(net.layers, {**net.input_shapes, **(input_shapes or {})})
    editor = _Editor(net, graph, report, keep_shared)
    while True:
        done = len(report.changes)
        editor.refusals.clear()
        for one in passes:
            editor.run(one)
        if raw is not None:
            raw.hear(editor.refusals)
        if len(report.changes) == done:
            break
    if raw is not None:
        raw.settle(net, report, input_layer)
    left_out = sum(not layer.active for layer in net.all_layers)
    if left_out and report.changes:
        text = f"layers of other states ({left_out}) stay as they were, what they read may be gone"
        text += ": the merged text is for this phase, level and stage alone"
        report.notes.append(Note("other-states", "", text))
    report.unshared = unshared(names, graph)
    report.finish(graph, editor.refusals)
    return report


def check_names(only: Sequence[str], skip: Sequence[str]) -> None:
    """Raise UsageError for a name that is no pass's."""
    known = [one.name for one in PASSES]
    for name in (*only, *skip):
        if name not in known:
            raise UsageError(f"no pass is called {name!r}; there are {', '.join(known)}")


def _chosen(net: Net, only: Sequence[str], skip: Sequence[str], options: Options) -> List[Pass]:
    check_names(only, skip)
    if options.serial not in SERIAL or options.affine_as not in (None, *AFFINE_AS):
        raise UsageError(f"serial is one of {SERIAL}, affine_as one of {AFFINE_AS}")
    if net.index is None:
        raise UsageError(f"{net.document.path}: loaded without weights, so nothing can be merged")
    names = {layer.name for layer in net.layers}
    for name in sorted(options.keep - names):
        raise UsageError(f"--keep {name}: the net has no layer of this name")
    chosen = [one for one in PASSES if not only or one.name in only]
    return [one(options) for one in chosen if one.name not in skip]


def _choose_style(net: Net, name: Optional[str]) -> List[Note]:
    """Have the layers that the style ``name`` fits be of it; a note if it fits none."""
    if name is None:
        return []
    known = list(dict.fromkeys(style.name for style in norms.STYLES))
    if name not in known:
        raise UsageError(f"no style is called {name!r}; there are {', '.join(known)}")
    if norms.choose_style(net.layers, name):
        return []
    return [Note("bn-style", "", f"--bn-style {name}: no layer has the type and blobs of it")]


class _Editor:
    """Applies rewrites and writes them down; the only place that changes a net."""

    def __init__(self, net: Net, graph: Graph, report: Report, keep_shared: bool) -> None:
        self.net = net
        self.graph = graph
        self.report = report
        self.keep_shared = keep_shared
        self.refusals: Dict[Layer, List[Refusal]] = {}
        self.disproved: Dict[Tuple[str, Tuple[Layer, ...]], str] = {}

    def run(self, one: Pass) -> None:
        """Find what ``one`` would do, and do what can be proved."""
        with np.errstate(all="ignore"):  # what is not finite does not get through its proof
            found = one.find(self.graph)
        rewrites = [item for item in found if isinstance(item, Rewrite)]
        for item in found:
            if isinstance(item, Refused):
                self._refuse(one, item.layer, item.reason)
        for batch in settle(self.graph, rewrites):
            self._try(one, batch)
        if rewrites:
            self.graph.check()

    def _try(self, one: Pass, batch: Batch) -> None:
        reason = self._why_not(one, batch)
        for rewrite in batch.rewrites:
            if reason is None:
                self._apply(one, rewrite)
                continue
            for layer in rewrite.layers:
                self._refuse(one, layer, reason)

    def _why_not(self, one: Pass, batch: Batch) -> Optional[str]:
        """Why the rewrites of ``batch`` are not made, if they are not."""
        if batch.parted and self.keep_shared:
            return f"{batch.parted}, kept so with --keep-shared"
        for rewrite in batch.rewrites:
            reason = self._disproof(one, rewrite)
            if reason is None and not rewrite.changes:
                # Rewrites made since this one was found may have brought a net input nearer.
                reasons = [self.graph.why_not_bypass(layer) for layer in rewrite.removed]
                reason = next(filter(None, reasons), None)
            if reason is not None:
                return reason
        return None

    def _disproof(self, one: Pass, rewrite: Rewrite) -> Optional[str]:
        """Why the proof of ``rewrite`` fails, if it does; a failure is remembered."""
        known = self.disproved.get((one.name, rewrite.layers))
        if known is not None:
            return known
        failure = prove(self.graph, rewrite.layers, rewrite.changes, rewrite.reads)
        if failure is None:
            return None
        reason = self.disproved[one.name, rewrite.layers] = f"the proof failed: {failure}"
        return reason

    def _apply(self, one: Pass, rewrite: Rewrite) -> None:
        self.report.add(one.name, rewrite)
        if rewrite.changes:
            rewire(self.graph, rewrite)
        else:
            for layer in rewrite.removed:
                self.graph.bypass(layer)
        names = [layer.name for layer in rewrite.layers]
        for layer, (param, blobs) in rewrite.changes.items():
            if param is not layer.param:
                # Names are the graph's; those of the rewrite are of when it was found.
                for field in ("bottom", "top"):
                    param.ClearField(field)
                    getattr(param, field).extend(getattr(layer.param, field))
                layer.sources = tuple(dict.fromkeys((*layer.sources, *names)))
            gone = norms.own_blocks(layer) if param.type != layer.type else ()
            layer.extra = _still_there(layer.extra, param, gone)
            layer.param = param
            layer.blobs = blobs
        for layer in rewrite.removed:
            self.net.all_layers.remove(layer)
        for layer in rewrite.layers:
            layer.remembered.clear()  # it holds vectors that nobody asks for again
        self.graph.infer_shapes(layer for layer in rewrite.layers if layer in rewrite.changes)

    def _refuse(self, one: Pass, layer: Layer, reason: str) -> None:
        refusal = Refusal(one.name, layer.name, layer.type, reason)
        self.refusals.setdefault(layer, []).append(refusal)


def _still_there(extra: Dict[str, str], param: Any, gone: Sequence[str]) -> Dict[str, str]:
    """The fork's fields that are left: without the blocks ``gone`` and those ``param`` has lost."""
    known = param.DESCRIPTOR.fields_by_name
    out = {}
    for name, value in extra.items():
        block, _, inner = name.partition(".")
        if block in gone or (inner and block in known and not _has(param, known[block])):
            continue
        out[name] = value
    return out


def _has(param: Any, field: Any) -> bool:
    return any(one is field for one, _ in param.ListFields())
