"""Training nets: noted as such, and refused where they read data of another phase."""

from __future__ import annotations

from typing import Any, List, Sequence, Set

from caffe_merge.errors import NetError, OptionName, Text, UsageError
from caffe_merge.layers.layer import Layer
from caffe_merge.net import data_layers
from caffe_merge.notes import Note

_DEPLOY, _STAGE = OptionName("deploy"), OptionName("stage")


def note_training(params: Sequence[Any], notes: List[Note]) -> None:
    """Say it where a net is one for training."""
    data = [param.name for param in data_layers.data_layers(params)]
    losses = [param.name for param in params if data_layers.is_loss(param)]
    if data or losses:
        kinds = (("data", data), ("losses", losses))
        parts = [f"{what} {in_short(names)}" for what, names in kinds if names]
        text = Text(
            f"a training file ({'; '.join(parts)}), merged as it is; ",
            _DEPLOY,
            " makes Input of data layers and Softmax of SoftmaxWithLoss, and takes out labels, "
            "losses and Accuracy",
        )
        notes.append(Note("training-net", "", text))


def check_pairs(*nets: Any) -> None:
    """Raise UsageError where of two Nets, the old and the new one, one alone is for training."""
    params = [[layer.param for layer in net.layers] for net in nets]
    paths = [net.document.path for net in nets]
    before, after = ({top for p in net if p.type == "Input" for top in p.top} for net in params)
    old, new = (bool(data_layers.data_layers(net)) for net in params)
    if before == after or old == new:
        return
    if old:
        where = f"{paths[0]}: a training file, and {paths[1]} is one to deploy: "
        raise UsageError(where, _DEPLOY, " makes it such a one")
    where = f"{paths[1]}: still a training file, compared with one to deploy: merge it with "
    raise UsageError(where, _DEPLOY, ", or validate without")


def check_data(active: Sequence[Layer], inactive: Sequence[Layer]) -> None:
    """Raise NetError where a layer reads what a data layer of another phase or stage makes."""
    others = data_layers.data_layers([layer.param for layer in inactive])
    elsewhere = {top for param in others for top in param.top}
    produced: Set[str] = set()
    for layer in active:
        for number, name in enumerate(layer.param.bottom):
            if name in elsewhere - produced:
                rules = [rule for param in others if name in param.top for rule in param.include]
                names = sorted({stage for rule in rules for stage in rule.stage})
                where = f"layer {layer.name!r}: bottom {name!r}"
                message = Text(f"{where} is the top of data layers of other ", _elsewhere(names))
                raise NetError(message, layer=layer, field="bottom", number=number)
        produced.update(layer.param.top)


def _elsewhere(stages: Sequence[str]) -> Text:
    advice = Text("phases or stages: ", _DEPLOY, " makes it an Input")
    if not stages:
        return advice
    return Text(advice, ", or choose one with ", _STAGE, f" (there are {in_short(stages)})")


def in_short(names: Sequence[str], most: int = 4) -> str:
    """``'a', 'b', 3 more``."""
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*map(repr, names[:most]), *more])
