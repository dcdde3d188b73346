"""``--deploy``: turns the text of a training net into one to deploy, before anything else reads it.

What the state leaves out goes; data layers become Input layers; labels, losses and Accuracy go,
with all that is computed from labels; SoftmaxWithLoss and SigmoidCrossEntropyLoss leave the Softmax
or Sigmoid that is in them; rules are dropped. What stays keeps its text and its comments.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from caffe_merge.arrays import Shape
from caffe_merge.errors import OptionName, UsageError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.syntax import Document, Field, Value
from caffe_merge.formats.text.view import View, extra_fields
from caffe_merge.formats.weights.index import Index
from caffe_merge.layers.state import TRAIN, State
from caffe_merge.net import data_layers
from caffe_merge.net.training import in_short
from caffe_merge.notes import Note

STAGE = "deploy"  # what DIGITS calls the net that it makes of a file for all three
_HEADS = {"SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid"}
_OUTPUT = "prob"
_DEPLOY = OptionName("deploy")


class _Part:
    """A layer of the text: as it is (``old``), as it will be (``new``; None: it goes)."""

    def __init__(self, field: Field, element: int, param: Any, extra: Dict[str, str]) -> None:
        self.field = field
        self.element = element
        self.old = param
        self.extra = extra
        self.new: Any = None
        self.chosen = False  # it is in the net, though perhaps not in the one to deploy

    @property
    def block(self) -> Value:
        return self.field.values[self.element]

    def keep(self) -> None:
        self.chosen = True
        self.new = LayerParameter()
        self.new.CopyFrom(self.old)
        self.new.ClearField("include")
        self.new.ClearField("exclude")


def rewrite(
    document: Document,
    state: State,
    input_shapes: Mapping[str, Shape],
    index: Optional[Index],
    notes: List[Note],
) -> Document:
    """The document of the net to deploy; ``notes`` say what was done.

    Raises UsageError where the shape of an input is not known, nor in ``input_shapes``.
    """
    net = NetParameter()
    rest = [field for field in document.fields if field.name != "layer"]
    View(document).read(rest, net)
    parts = _read(document)
    stages = [*state.stages, *net.state.stage]
    rules = [rule for part in parts for rule in (*part.old.include, *part.old.exclude)]
    if any(STAGE in (*rule.stage, *rule.not_stage) for rule in rules):
        stages.append(STAGE)
    deployment = _Deployment(parts, State(state.phase, state.level, stages), net.input, notes)
    deployment.choose()
    deployment.heads()
    deployment.prune()
    deployment.inputs(input_shapes, index, document.path)
    return _written(document, parts)


def _read(document: Document) -> List[_Part]:
    parts = []
    for field in document.fields:
        if field.name != "layer":
            continue
        for element, value in enumerate(field.values):
            if value.fields is None:
                document.fail(value.start, "expected a { block } for 'layer'")
            view = View(document)
            param = LayerParameter()
            view.read(value.fields, param)
            parts.append(_Part(field, element, param, extra_fields(view.unknown)))
    return parts


class _Deployment:
    """The steps, in order; each changes what the parts will be."""

    def __init__(
        self, parts: List[_Part], state: State, net_inputs: Iterable[str], notes: List[Note]
    ) -> None:
        self.parts = parts
        self.state = state
        self.net_inputs = set(net_inputs)
        self.notes = notes
        self.data: List[_Part] = []

    @property
    def live(self) -> List[_Part]:
        return [part for part in self.parts if part.new is not None]

    def _note(self, layer: str, text: str) -> None:
        self.notes.append(Note("deploy", layer, text))

    def choose(self) -> None:
        """Keep what the state includes, and data layers of other states where it has none."""
        for part in self.parts:
            if self.state.includes(part.old):
                part.keep()
        produced = set(self.net_inputs)
        for at, part in enumerate(self.parts):
            if part.new is None:
                continue
            for name in set(part.new.bottom) - produced:
                before = [part for part in self.parts[:at] if name in part.old.top]
                others = [part for part in before if part.new is None and not part.old.bottom]
                tested = [part for part in others if not _trains(part.old)] or others
                if tested:
                    tested[-1].keep()
                    produced.update(tested[-1].old.top)
            produced.update(part.new.top)
        left_out = [part.old.name for part in self.parts if part.new is None]
        if left_out:
            self._note("", f"not in the net to deploy, removed: {in_short(left_out)}")
        params = data_layers.data_layers([part.old for part in self.live])
        self.data = [part for part in self.live if any(part.old is param for param in params)]

    def heads(self) -> None:
        """Replace each loss by the layer that it contains (Softmax, Sigmoid), or remove it."""
        losses = [part for part in self.live if data_layers.is_loss(part.old)]
        dropped = []
        for part in reversed(losses):  # the last is the net's main one
            kind = _HEADS.get(part.old.type)
            if kind is None or not part.old.bottom or self._has(kind, part.old.bottom[0]):
                part.new = None
                dropped.append(part.old.name)
                continue
            self._make_head(part, kind)
        if dropped:
            self._note("", f"losses and their like, removed: {in_short(dropped[::-1])}")

    def _has(self, kind: str, logits: str) -> bool:
        return any(p.new.type == kind and list(p.new.bottom) == [logits] for p in self.live)

    def _make_head(self, part: _Part, kind: str) -> None:
        new = LayerParameter(name=part.old.name, type=kind, bottom=part.old.bottom[:1])
        if part.old.HasField("softmax_param") and kind == "Softmax":
            new.softmax_param.CopyFrom(part.old.softmax_param)
        part.new = None
        names = {p.new.name for p in self.live}
        blobs = {top for p in self.live for top in (*p.new.top, *p.new.bottom)} | self.net_inputs
        if len(part.old.top) > 1:  # its second top is the output already
            new.top.append(part.old.top[1])
        else:
            new.top.append(_free(_OUTPUT, f"{new.bottom[0]}_{_OUTPUT}", blobs))
        if new.top[0] not in names:
            new.name = new.top[0]
        part.new = new
        self._note(part.old.name, f"{part.old.type} became {kind}, its output is {new.top[0]!r}")

    def prune(self) -> None:
        """Remove labels and what is computed from them."""
        labels = data_layers.label_blobs([part.old for part in self.parts if part.chosen])
        lost_labels = labels.intersection(top for part in self.data for top in part.old.top)
        for part in self.data:
            lost_labels.update(
                t for n, t in enumerate(part.old.top) if data_layers.is_label(part.old, n)
            )
        removed: Dict[str, None] = {}
        size = -1
        while size != len(lost_labels):
            size = len(lost_labels)
            self._spread(lost_labels, removed)
            read = {name for part in self.live for name in part.new.bottom}
            lost_labels.update(top for part in self.data for top in part.old.top if top not in read)
        for part in self.data:
            kept = [top for top in part.old.top if top not in lost_labels]
            if not kept:
                part.new = None
                removed[part.old.name] = None
            elif part.new is not None:
                part.new.ClearField("top")
                part.new.top.extend(kept)
        self.data = [part for part in self.data if part.new is not None]
        if removed:
            self._note("", f"of use to labels and losses only, removed: {in_short(list(removed))}")

    def _spread(self, dropped: Set[str], removed: Dict[str, None]) -> None:
        """Remove the readers of ``dropped`` blobs; their tops are gone as well.

        So are the tops of layers that were removed before, unless another layer produces them.
        """
        available = set(self.net_inputs)
        for part in self.parts:
            if part in self.data:
                available.update(top for top in part.old.top if top not in dropped)
                continue
            if part.new is None:
                continue
            lost = [
                n
                for n in part.new.bottom
                if n in dropped or (n not in available and self._is_produced(n))
            ]
            if not lost:
                available.update(part.new.top)
                continue
            kept = [name for name in part.new.bottom if name not in lost]
            if part.new.type == "Silence" and kept:
                part.new.ClearField("bottom")
                part.new.bottom.extend(kept)
                continue
            part.new = None
            removed[part.old.name] = None
            dropped.update(top for top in part.old.top if top not in available)

    def _is_produced(self, name: str) -> bool:
        """Whether any layer of the net produces ``name``; if none does the net is wrong itself."""
        return any(part.chosen and name in part.old.top for part in self.parts)

    def inputs(self, input_shapes: Mapping[str, Shape], index: Optional[Index], path: str) -> None:
        """Make an Input of each data layer."""
        shapes = data_layers.Shapes([part.new for part in self.live], index)
        for part in self.data:
            new = LayerParameter(name=part.old.name, type="Input", top=part.new.top)
            for top in new.top:
                shape = input_shapes.get(top) or shapes.of(part.old, top, part.extra, batch=1)
                if shape is None:
                    raise UsageError(
                        _DEPLOY,
                        f" cannot tell the shape of input {top!r} ({part.old.type}): give ",
                        shapes.request(part.old, top, part.extra),
                        path=path,
                    )
                new.input_param.shape.add(dim=shape)
                shown = "x".join(map(str, shape))
                self._note(part.old.name, f"{part.old.type} became Input, {top!r} is {shown}")
            part.new = new


def _trains(param: Any) -> bool:
    return any(rule.HasField("phase") and rule.phase == TRAIN for rule in param.include)


def _free(name: str, other: str, taken: Set[str]) -> str:
    """``name`` if it is free, else ``other``, with a number if that is not."""
    names = [name, other, *(f"{other}{number}" for number in range(2, len(taken) + 4))]
    return next(candidate for candidate in names if candidate not in taken)


def _written(document: Document, parts: Sequence[_Part]) -> Document:
    """The document with the new parts; the same object where nothing changes."""
    edits = Edits(document)
    changed = False
    schema = LayerParameter.DESCRIPTOR.fields_by_name
    for part in parts:
        if part.new is None:
            edits.remove(part.field, part.element)
        elif part.new != part.old:
            edits.update(part.block, part.old, part.new)
            if part.new.type == "Input":
                for field in part.block.fields or ():
                    if field.name not in schema:
                        edits.delete(field)
        changed = changed or part.new != part.old
    return edits.rewritten() if changed else document
