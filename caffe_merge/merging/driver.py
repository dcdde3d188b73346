"""Runs the passes on a net: find, prove, apply, check; to a fixed point."""

from __future__ import annotations

from itertools import chain
from operator import is_
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.errors import OptionName, Text, UsageError, meant
from caffe_merge.layers import norms
from caffe_merge.layers.fork_fields import misfit_notes
from caffe_merge.layers.layer import Layer, remembering
from caffe_merge.layers.spec import apart
from caffe_merge.merging.proof import prove
from caffe_merge.merging.report import Refusal, Report
from caffe_merge.merging.rewiring import free_name, rewire
from caffe_merge.merging.sharing import Batch, batches, unshared
from caffe_merge.merging.undo import unchanged_on_error
from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net
from caffe_merge.net.propagation import why_unfit
from caffe_merge.net.shared import shared_blobs
from caffe_merge.notes import PROOF, SHARED, Note, Reason
from caffe_merge.options import Options
from caffe_merge.passes import PASSES, PassEntry
from caffe_merge.passes.rewriting.rewrite import Pass, Refused, Rewrite

if TYPE_CHECKING:
    from caffe_merge.merging.raw_input import RawInput
    from caffe_merge.passes.targets.table import Target


def merge(net: Net, options: Optional[Options] = None, **changes: Any) -> Report:
    """Rewrite ``net`` in place; the report names every change and every refusal.

    Options are given as keywords, or as ``options`` and what changes in them::

        only, skip    names of passes to run, or to leave out
        keep          names of layers that stay as they are
        keep_shared   refuse what would unshare weights
        target        a program that reads Caffe pairs: the net gets the form that it takes
        bn_style      the fork's style of the BatchNorm-like layers that it fits (docs/forks.md)
        serial        "auto", "always" or "never" (see merge-serial)
        affine_as     "conv" or "scale" (see affine-as)
        equalize      bring the ranges of channels together (docs/int8.md)
        absorb_bias   move high biases behind their ReLU: not exact (docs/int8.md)
        in_place      layers write over their bottom, where nobody else reads it
        mean, scale, swap_rgb   the net takes raw pixels where it took what these make of them
        input_layer   what cannot be folded of these exactly stays as a layer on the input
        input_shapes  blob name -> shape, of inputs that the text gives no shape for

    Raises UsageError for a name or choice that is none, and where raw pixels cannot be folded;
    NetError for a net that Caffe would not build; WeightsError where a value is not finite or a
    variance negative. Whatever is raised, ``net`` is as it was.
    """
    requested = (options or Options()).with_(**changes)
    with unchanged_on_error(net), remembering():
        return _Driver(net, requested).run()


def check_options(options: Options) -> None:
    """Raise UsageError for options with which no net could be merged."""
    if options.only or options.skip:
        from caffe_merge.passes.forms import FORMS

        names = [listed.name for listed in (*PASSES, *FORMS)]
        for name in (*options.only, *options.skip):
            if name not in names:
                raise UsageError(f"no pass is called {name!r}{meant(name, names)}")
    styles = list(dict.fromkeys(style.name for style in norms.STYLES))
    if options.bn_style not in (None, *styles):
        name = str(options.bn_style)
        raise UsageError(f"no style is called {name!r}{meant(name, styles)}")
    if options.input_layer and not options.of_pixels:
        mean, scale, swap = map(OptionName, ("mean", "scale", "swap_rgb"))
        there_is = ": there is no ", mean, ", ", scale, " or ", swap
        raise UsageError(OptionName("input_layer"), *there_is, " to be a layer of")
    _target(options)


def _target(options: Options) -> Optional[Target]:
    if options.target is None:
        return None
    from caffe_merge.passes.targets.table import find

    return find(options.target)


def check_net(net: Net, options: Options) -> None:
    """Raise UsageError where ``options`` do not fit ``net``, as a merge does a little later."""
    _check_layers(net, options)
    if options.of_pixels or options.input_shapes:
        graph = _resolved(net, options)
        if options.of_pixels:
            from caffe_merge.merging import raw_input

            raw_input.fitted(graph, options)


def _check_layers(net: Net, options: Options) -> None:
    check_options(options)
    if net.index is None:
        raise UsageError("loaded without weights, so nothing can be merged", path=net.document.path)
    names = {layer.name for layer in net.layers}
    for name in sorted(set(options.keep) - names):
        raise UsageError(OptionName("keep"), f" {name}: the net has no layer of this name")


def _resolved(net: Net, options: Options) -> Graph:
    """The graph of ``net``. Raises UsageError where shapes of ``options`` do not fit its layers."""
    graph = net.graph(options.input_shapes)
    for layer in graph.layers if options.input_shapes else ():
        unfit = why_unfit(layer, [version.shape for version in graph.bottoms[layer]])
        if unfit is not None:
            raise UsageError(OptionName("input_shapes"), f": layer {layer.name!r}: {unfit}")
    return graph


def _choose_style(net: Net, name: Optional[str]) -> List[Note]:
    """Give the layers that the style ``name`` fits that style; a note if it fits none."""
    if name is None:
        return []
    if norms.choose_style(net.layers, name):
        return []
    text = Text(OptionName("bn_style"), f" {name}: no layer has the type and blobs of it")
    return [Note("bn-style", "", text)]


class _Driver:
    """One merge: has the passes find rewrites, proves and applies them, and reports them."""

    def __init__(self, net: Net, options: Options) -> None:
        self.net = net
        self.options = options
        self.target = _target(options)
        _check_layers(net, options)
        unfit = _choose_style(net, options.bn_style)
        self.graph = _resolved(net, options)
        self.outputs = {top.name: top.producer.name for top in self.graph.outputs}
        self.report = Report(net, self.graph)
        self.report.notes += [*unfit, *norms.notes(net.layers)]
        misfits = misfit_notes(self.graph.layers)  # some at shapes that only the options give
        self.report.notes += [note for note in misfits if note not in self.report.notes]
        self.shared = shared_blobs(self.graph.layers)
        self.raw = self._raw_input()
        self.refusals: Dict[str, List[Tuple[Layer, Refusal]]] = {}  # of the last run of each pass
        self.disproved: Dict[Tuple[str, Tuple[Layer, ...]], Tuple[List[Any], Reason]] = {}

    def _raw_input(self) -> Optional[RawInput]:
        """The layers that turn raw pixels into the old input, if the user asks for them."""
        if not self.options.of_pixels:
            return None
        from caffe_merge.merging import raw_input

        raw = raw_input.insert_layers(self.net, self.graph, self.options)
        self.graph = _resolved(self.net, self.options)
        return raw

    def run(self) -> Report:
        """Run the passes to a fixed point, then the forms; the report, complete."""
        if self.target is None:
            self._run_all(PASSES)
        else:
            self._run_for(self.target)
        if self.raw is not None:
            self.raw.finish(self.net, self.report, self.options.input_layer)
        self._note_other_states()
        self._note_outputs()
        self._note_none_absorbed()
        lost = set(self.net.lost_fields())
        self.report.notes = [note for note in self.report.notes if note not in lost]
        self.report.unshared = unshared(self.shared, self.graph)
        self.report.finish(self.graph, self._refusals_by_layer())
        return self.report

    def _refusals_by_layer(self) -> Dict[Layer, List[Refusal]]:
        refusals: Dict[Layer, List[Refusal]] = {}
        for layer, refusal in chain.from_iterable(self.refusals.values()):
            refusals.setdefault(layer, []).append(refusal)
        return refusals

    def _run_for(self, target: Target) -> None:
        """Run the passes, then the forms of ``target``; what it would not take is in the report."""
        from caffe_merge.merging import target_forms
        from caffe_merge.passes.forms import FORMS

        before = target_forms.problems(self.net, self.graph, target)
        self._run_all(PASSES)
        self._run_all(FORMS)
        target_forms.note_remaining(self.net, self.graph, target, self.report)
        after = target_forms.problems(self.net, self.graph, target, merged=True)
        self.report.target = {
            "name": target.name,
            "title": target.title,
            "before": before,
            "after": after,
        }

    def _run_all(self, passes: Sequence[PassEntry]) -> None:
        """Run the requested ``passes`` in rounds, until none finds anything.

        A pass is skipped where nothing changed since it last began: it would find the same. Each
        rewrite is correct by itself, so passes that undo each other do no harm, but they would
        never end: the number of rounds is bounded, far above what any net was seen to need.
        """
        passes = [entry for entry in passes if entry.is_asked_for(self.options)]
        instances: Dict[str, Pass] = {}
        seen: Dict[str, int] = {}  # how many changes there were when a pass last began
        for _ in range(100 + len(self.net.layers)):
            done = len(self.report.changes)
            types = {layer.type for layer in self.graph.layers}
            for entry in passes:
                name, changes = entry.name, len(self.report.changes)
                if name not in instances and entry.may_find(types):
                    instances[name] = entry(self.options)
                if name in instances and seen.get(name) != changes:
                    seen[name] = changes
                    self._run(instances[name])
            if self.raw is not None:
                self.raw.add_refusals(self._refusals_by_layer())
            if len(self.report.changes) == done:
                break

    def _note_outputs(self) -> None:
        """Note a net output whose producer has another name than before."""
        for version in self.graph.outputs:
            old, new = self.outputs.get(version.name), version.producer.name
            if old is not None and old != new:
                text = f"makes the output {version.name!r} now, which {old!r} made: readers that "
                text += "call outputs by layer, as OpenCV and MNN do, find it by this name"
                self.report.notes.append(Note("output-layer", new, text))

    def _note_none_absorbed(self) -> None:
        """Note that absorb-bias, which the user asked for, changed nothing."""
        if not self.options.absorb_bias or self.report.approximation is not None:
            return
        name, why = "absorb-bias", Text("no ReLU is there")
        if not any(entry.name == name and entry.is_asked_for(self.options) for entry in PASSES):
            why = Text(OptionName("only"), " or ", OptionName("skip"), " leaves its pass out")
        for layer, refusal in self.refusals.get(name, [])[:1]:
            why = Text(f"ReLU {layer.name!r} stays: ", refusal.reason)
        text = Text(OptionName("absorb_bias"), " has moved nothing: ", why)
        self.report.notes.append(Note("none-absorbed", "", text))

    def _note_other_states(self) -> None:
        left_out = sum(not layer.active for layer in self.net.all_layers)
        if left_out and self.report.changes:
            text = f"layers of other states ({left_out}) stay as they were, what they read may be "
            text += "gone: the merged text is for this phase, level and stage alone"
            self.report.notes.append(Note("other-states", "", text))

    def _run(self, pass_: Pass) -> None:
        """Find the rewrites of ``pass_``, and apply those that can be proved."""
        self.refusals[pass_.name] = []
        with np.errstate(all="ignore"):  # what is not finite does not get through its proof
            findings = pass_.find(self.graph)
        rewrites = [finding for finding in findings if isinstance(finding, Rewrite)]
        for finding in findings:
            if isinstance(finding, Refused):
                self._refuse(pass_, finding.layer, finding.reason)
        for batch in batches(self.graph, rewrites):
            self._try(pass_, batch)
        if rewrites:
            self._infer_unknown_shapes()
            self.graph.check()

    def _infer_unknown_shapes(self) -> None:
        """Infer shapes again if some are unknown: the fork's layer that hid them may be removed."""
        tops = (top for layer in self.graph.layers for top in self.graph.tops[layer])
        if any(top.shape is None for top in tops):
            self.graph.infer_shapes(self.graph.layers)

    def _try(self, pass_: Pass, batch: Batch) -> None:
        reason = self._why_not(pass_, batch)
        for rewrite in batch.rewrites:
            if reason is None:
                self._apply(pass_, rewrite)
                continue
            for layer in rewrite.layers:
                self._refuse(pass_, layer, reason)

    def _why_not(self, pass_: Pass, batch: Batch) -> Optional[Reason]:
        """Why the rewrites of ``batch`` cannot be applied; None if they can."""
        if batch.unshares is not None and self.options.keep_shared:
            text = Text(f"{batch.unshares}, kept so with ", OptionName("keep_shared"))
            return Reason(text, SHARED)
        for rewrite in batch.rewrites:
            reason = self._why_not_for_target(rewrite) or self._disproof(pass_, rewrite)
            if reason is None and not rewrite.changes:
                # Rewrites made since this one was found may have brought a net input nearer.
                reason = self.graph.why_not_bypass(*rewrite.removed)
            if reason is not None:
                return reason
        return None

    def _why_not_for_target(self, rewrite: Rewrite) -> Optional[Reason]:
        """Why the target, if there is one, would refuse a layer that ``rewrite`` makes."""
        if self.target is None:
            return None
        from caffe_merge.merging.target_forms import why_not

        return why_not(self.graph, rewrite, self.target)

    def _disproof(self, pass_: Pass, rewrite: Rewrite) -> Optional[Reason]:
        """Why the proof of ``rewrite`` fails, if it does; remembered while its layers stay so."""
        if not rewrite.is_exact:
            return None
        params = [layer.param for layer in (*rewrite.premises, *rewrite.layers)]
        then, earlier = self.disproved.get((pass_.name, rewrite.layers), ([], None))
        if earlier is not None and all(map(is_, then, params)):
            return earlier
        layers, changes = rewrite.layers, rewrite.changes
        if rewrite.premises:
            layers = self.graph.in_order({*rewrite.premises, *layers})
            changes = {
                **changes,
                **{layer: (layer.param, layer.blobs) for layer in rewrite.premises},
            }
        failure = prove(self.graph, layers, changes, rewrite.reads, rewrite.inserts)
        if failure is None:
            return None
        reason = Reason(f"the proof failed: {failure}", PROOF)
        self.disproved[pass_.name, rewrite.layers] = params, reason
        return reason

    def _apply(self, pass_: Pass, rewrite: Rewrite) -> None:
        self._place_inserts(rewrite)
        self.report.add(pass_.name, rewrite)
        if rewrite.changes:
            rewire(self.graph, rewrite)
        else:
            for layer in rewrite.removed:
                self.graph.bypass(layer)
        names = [layer.name for layer in rewrite.layers]
        for layer, (param, blobs) in rewrite.changes.items():
            param, extra = apart(param, layer.extra)
            layer.extra = dict(extra)
            if param is not layer.param:
                # Names are the graph's; those of the rewrite are of when it was found.
                for field in ("bottom", "top"):
                    param.ClearField(field)
                    getattr(param, field).extend(getattr(layer.param, field))
                layer.sources = tuple(dict.fromkeys((*layer.sources, *names)))
            blocks = norms.own_blocks(layer) if param.type != layer.type else ()
            layer.extra = _remaining(layer.extra, param, blocks)
            layer.param = param
            layer.blobs = blobs
        for layer in rewrite.removed:
            self.net.all_layers.remove(layer)
        self.graph.infer_shapes(insert.layer for insert in rewrite.inserts)
        self.graph.infer_shapes(layer for layer in rewrite.layers if layer in rewrite.changes)

    def _place_inserts(self, rewrite: Rewrite) -> None:
        """Give new and moved layers their places in the net, and the new ones their names."""
        layers, new = self.net.all_layers, rewrite.new
        taken = {layer.name for layer in layers} if new else set()
        for layer, reader, number, _ in rewrite.inserts:
            if layer in new:
                base = f"{self.graph.bottoms[reader][number].name}_{layer.param.name}"
                layer.param.name = free_name(base, taken)
                layer.phase = self.net.state.phase
            else:
                layers.remove(layer)
            layers.insert(layers.index(reader), layer)

    def _refuse(self, pass_: Pass, layer: Layer, reason: Reason) -> None:
        refusal = Refusal(pass_.name, layer.name, layer.type, reason.kind, reason)
        self.refusals[pass_.name].append((layer, refusal))


def _remaining(extra: Dict[str, str], param: Any, blocks: Sequence[str]) -> Dict[str, str]:
    """The fork's fields that remain: not those in ``blocks``, nor in blocks ``param`` has lost."""
    fields = param.DESCRIPTOR.fields_by_name
    out = {}
    for name, value in extra.items():
        block, _, inner = name.partition(".")
        if block in blocks or (inner and block in fields and not _has(param, fields[block])):
            continue
        out[name] = value
    return out


def _has(param: Any, field: Any) -> bool:
    return any(present is field for present, _ in param.ListFields())
