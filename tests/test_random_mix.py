"""Random nets of every layer type that the engine runs: merged, they compute what they did.

Each type of tests.test_random_nets' recipe and of the tables here may stand behind any other, with
drawn parameters. Where real Caffe is there it judges every net of which it has all types.
"""

from typing import Callable, Dict, List, Optional, Sequence

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from caffe_merge.arrays import count
from caffe_merge.errors import NetError
from caffe_merge.net.graph import Graph
from caffe_merge.reference import SUPPORTED
from tests.merger import Merger
from tests.nets import parse, prototxt
from tests.seeds import examples
from tests.test_random_nets import Recipe, Shape

LARGEST = 4000  # values of a blob


class Mix(Recipe):
    """Draws any layer; a drawn one that Caffe would refuse is left out."""

    def __init__(self, data: st.DataObject, forks: bool) -> None:
        super().__init__(data)
        self.kinds: Dict[str, Callable[[str, str, str], None]] = {
            **dict.fromkeys(SMOOTH, self._one_to_one),
            **dict.fromkeys(JOINING, self._joining),
            **dict.fromkeys(OF_FORKS if forks else (), self._one_to_one),
            **dict.fromkeys(RECURRENT, self._recurrent),
            "Masked": self._masked,
            "Cut": self._cut,
            "Exact": self._exact,
            "Parameter": self._parameter,
        }
        self.forks = forks
        if not forks:
            for kind in ("Axpy", "Masked", "PriorBox", "PriorBoxClustered"):
                del self.kinds[kind]

    def add(self, name: str) -> None:
        """One of the other recipe's layers, or one of the types that it has not."""
        if self.flag():
            super().add(name)
            return
        kind = str(self.pick(*self.kinds))
        unread = [blob for blob in self.shapes if blob not in self.read]
        pool = unread[-1:] if unread and self.number(0, 4) else list(self.shapes)
        bottom = str(self.pick(*pool))
        self.kinds[kind](name, kind, bottom)

    def put(self, name: str, kind: str, bottom: str, body: str, shape: Shape, alter: bool) -> None:
        """As in `Recipe`; taken back if Caffe would refuse the layer for a bottom of `Mix`."""
        before = dict(self.shapes), set(self.read)
        super().put(name, kind, bottom, body, shape, alter)
        line = self.lines.pop()
        if self._tops(line) is None:
            self.shapes, self.read = before
            return
        self.lines.append(line)

    def place(self, name: str, kind: str, bottoms: Sequence[str], body: str, tops: int = 1) -> bool:
        """Write the layer, if Caffe would build it; whether it was written."""
        names = [name] if tops == 1 else [f"{name}_{number}" for number in range(tops)]
        line = f"{name}: {kind} {' '.join(bottoms)} -> {' '.join(names)} {{ {body} }}"
        sizes = self._tops(line)
        if sizes is None:
            return False
        self.read.update(bottoms)
        self.shapes.update(zip(names, sizes))
        self.lines.append(line)
        return True

    def _tops(self, line: str) -> Optional[List[Shape]]:
        """The shapes of the tops of a line behind the others; None if one is wrong or too large."""
        try:
            layers = parse(prototxt(*self.lines, line)).layers
            sizes = [version.shape for version in Graph(layers, {}).tops[layers[-1]]]
        except NetError:
            return None
        fitting = [shape for shape in sizes if shape and count(shape) <= LARGEST]
        return fitting if len(fitting) == len(sizes) else None

    def _one_to_one(self, name: str, kind: str, bottom: str) -> None:
        body = str(self.pick(*CHOICES[kind]))
        if kind in GUARDS:  # of values that it is tame for
            inner = f"{name}_in"
            if not self.place(inner, GUARDS[kind], [bottom], ""):
                return
            bottom = inner
        self.place(name, kind, [bottom], body)

    def _joining(self, name: str, kind: str, bottom: str) -> None:
        shape = self.shapes[bottom]
        alike = [blob for blob, other in self.shapes.items() if other == shape]
        others = alike if kind == "Eltwise" else list(self.shapes)
        bottoms = [bottom, str(self.pick(*others))]
        if kind == "Axpy":
            bottoms = [*bottoms[::-1], str(self.pick(*alike))]
        self.place(name, kind, bottoms, str(self.pick(*JOINING[kind])))

    def _cut(self, name: str, kind: str, bottom: str) -> None:
        """Slice or Split, and now and then Silence behind one of the tops."""
        tops = self.number(2, 3)
        kind = str(self.pick("Slice", "Split"))
        axis = self.number(0, len(self.shapes[bottom]) - 1)
        body = f"slice_param {{ axis: {axis} }}" if kind == "Slice" else ""
        if self.place(name, kind, [bottom], body, tops) and self.flag():
            silent = f"{name}_{self.number(0, tops - 1)}"
            self.read.add(silent)
            self.lines.append(f"{name}_s: Silence {silent} -> ")
            del self.shapes[silent]

    def _exact(self, name: str, kind: str, bottom: str) -> None:
        """What jumps reads the input itself: a rounding before a jump is no fault of a merge."""
        kind = str(self.pick("Threshold", "ArgMax"))
        choice = (
            self.pick("threshold: 0.1", "") if kind == "Threshold" else self.pick("axis: 1", "")
        )
        if self.place(name, kind, ["data"], f"{kind.lower()}_param {{ {choice} }}") and self.flag():
            inputs = 2 if kind == "Threshold" else count(self.shapes["data"][1:])
            body = f"embed_param {{ num_output: 3 input_dim: {inputs} }}"
            self.place(f"{name}_e", "Embed", [name], body)

    def _masked(self, name: str, kind: str, bottom: str) -> None:
        """What a Pooling of the input took goes back to its place."""
        height, width = self.shapes["data"][-2:]
        pooling = "pooling_param { kernel_size: 2 stride: 2 }"
        if self.place(name, "Pooling", ["data"], pooling, tops=2):
            kind = str(self.pick("Upsample", "Unpooling"))
            side = kind.lower().replace("ing", "")
            body = f"{kind.lower()}_param {{ {side}_h: {height} {side}_w: {width} }}"
            self.place(f"{name}_u", kind, [f"{name}_0", f"{name}_1"], body)

    def _recurrent(self, name: str, kind: str, bottom: str) -> None:
        """Its steps are images; whether a sequence goes on is learned, or a fork's indicator."""
        steps = self.shapes[bottom][:2]
        if len(self.shapes[bottom]) < 3:
            return
        mark, body = f"{name}_m", "parameter_param {{ shape {{ dim: {} dim: {} }} }}"
        if self.forks:
            body = "continuation_indicator_param {{ time_step: {} batch_size: {} }}"
        first = "ContinuationIndicator" if self.forks else "Parameter"
        if self.place(mark, first, [], body.format(*steps)):
            self.place(name, kind, [bottom, mark], "recurrent_param { num_output: 3 }")

    def _parameter(self, name: str, kind: str, bottom: str) -> None:
        """A blob that is learned, as large as the bottom; what reads it comes later."""
        dims = " ".join(f"dim: {size}" for size in self.shapes[bottom])
        self.place(name, "Parameter", [], f"parameter_param {{ shape {{ {dims} }} }}")


# One bottom, one top. A merge may change the last bits of what they read, so none may jump.
SMOOTH: Dict[str, List[str]] = {
    "AbsVal": [""],
    "BNLL": [""],
    "ELU": ["", "elu_param { alpha: 0.5 }"],
    "Exp": ["", "exp_param { scale: 0.5 shift: 1 }", "exp_param { base: 2 }"],
    "Flatten": ["", "flatten_param { axis: 2 }", "flatten_param { axis: 0 end_axis: 1 }"],
    "LRN": ["", "lrn_param { local_size: 3 alpha: 0.1 }",
            "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"],
    "Log": ["log_param { shift: 1.5 }", "log_param { base: 10 scale: 0.5 shift: 1 }"],
    "MVN": ["mvn_param { normalize_variance: false }",
            "mvn_param { across_channels: true eps: 0.01 }"],
    "Reduction": [f"reduction_param {{ {choice} }}" for choice in
                  ("axis: 1", "axis: 2 operation: MEAN coeff: 2", "axis: -1 operation: ASUM")],
    "Reshape": [f"reshape_param {{ {choice} }}" for choice in
                ("shape { dim: 0 dim: -1 }", "shape { dim: -1 dim: 1 } axis: 1", "axis: 1 "
                 "num_axes: 0 shape { dim: 1 }")],
    "SPP": ["spp_param { pyramid_height: 2 }", "spp_param { pyramid_height: 1 pool: AVE }"],
    "Sigmoid": [""],
    "Softmax": ["", "softmax_param { axis: -1 }"],
    "Swish": ["", "swish_param { beta: 0.5 }"],
    "TanH": [""],
    "Tile": ["tile_param { tiles: 2 }", "tile_param { axis: -1 tiles: 3 }"],
}  # fmt: skip
RECURRENT = ("LSTM", "RNN")
GUARDS = {"Exp": "TanH", "Log": "Sigmoid"}
OF_FORKS: Dict[str, List[str]] = {
    "Clip": ["clip_param { min: -1 max: 2 }"],
    **{kind: [""] for kind in ("HSwish", "HardSwish", "Mish", "SeLU", "Softplus")},
    "HardSigmoid": ["", "hard_sigmoid_param { alpha: 0.3 }"],
    "Interp": ["interp_param { zoom_factor: 2 }", "interp_param { height: 3 width: 5 }"],
    "Normalize": ["norm_param { across_spatial: false }", "norm_param { channel_shared: true }"],
    "Padding": ["padding_param { pad_t: 1 pad_r: 2 }", "padding_param { pad_l: 1 pad_value: 3 }"],
    "Permute": [f"permute_param {{ {choice} }}" for choice in
                ("order: 0 order: 2 order: 3 order: 1", "order: 1 order: 0")],
    "Reorg": ["reorg_param { stride: 2 }", "reorg_param { stride: 2 reverse: true }"],
    "ResizeBilinear": [f"resize_bilinear_param {{ {choice} }}" for choice in
                       ("scale_width: 2", 'output_height: 3 data_format: "NCHW"')],
    "ResizeNearestNeighbor": ["resize_nearest_neighbor_param { scale_height: 2 }"],
    "Reverse": ["", "reverse_param { axis: 1 }"],
    "ShuffleChannel": ["shuffle_channel_param { group: 2 }", "shuffle_channel_param { group: 3 }"],
    "Unpooling": [f"unpooling_param {{ {choice} stride: 2 unpool_size: 9 }}" for choice in
                  ("", "unpool: AVE kernel_size: 3", "unpool: TILE kernel_size: 2")],
    "Upsample": ["upsample_param { scale: 2 }"],
}  # fmt: skip
CHOICES = {**SMOOTH, **OF_FORKS}
# Two bottoms or three, which must fit each other.
JOINING: Dict[str, List[str]] = {
    "Axpy": [""],
    "Bias": ["bias_param { axis: 0 }", "bias_param { axis: 1 }"],
    "Concat": ["", "concat_param { axis: 0 }", "concat_param { axis: -1 }"],
    "Crop": ["", "crop_param { axis: 1 offset: 0 }", "crop_param { axis: -1 offset: 1 }"],
    "Eltwise": [f"eltwise_param {{ {choice} }}" for choice in
                ("operation: PROD", "operation: MAX", "coeff: 0.5 coeff: -2")],
    "Interp": ["interp_param { pad_beg: -1 }"],
    "MatMul": ["matmul_param { dim_1: 24 dim_2: 16 dim_3: 24 }"],
    "PriorBox": ["prior_box_param { min_size: 3 aspect_ratio: 2 }"],
    "PriorBoxClustered": ["prior_box_param { width: 3 height: 2 }"],
    "Scale": ["scale_param { axis: 0 }", "scale_param { axis: 1 bias_term: true }"],
}  # fmt: skip


@examples(60)
@given(data=st.data())
def _random_mix(merger: Merger, data: st.DataObject) -> None:
    recipe = Mix(data, forks=not data.draw(st.integers(0, 3)))
    lines = recipe.build(data.draw(st.integers(6, 16)))
    note("\n".join(lines))
    form = data.draw(st.sampled_from([None, None, "conv", "scale"]))
    serial = data.draw(st.sampled_from(["auto", "auto", "always"]))
    seed, in_place = data.draw(st.integers(0, 3)), data.draw(st.booleans())
    merger(*lines, seed=seed, affine_as=form, serial=serial, in_place=in_place)


@pytest.mark.hypothesis
def test_random_mix(merged: Merger) -> None:
    """All that tests.merger checks holds whatever stands between what is merged."""
    _random_mix(merged)


# The lines of every other type that the mix draws, behind the blobs of `BEFORE`.
ALONE: Dict[str, List[str]] = {
    "Slice": ["x: Slice n -> x y { slice_param { axis: 1 } }"],
    "Split": ["x: Split n -> x y"],
    "Silence": ["sp: Split n -> x z", "si: Silence z -> "],
    "Threshold": ["x: Threshold data -> x { threshold_param { threshold: 0.1 } }"],
    "ArgMax": ["x: ArgMax data -> x { argmax_param { axis: 1 } }"],
    "Embed": ["h: Threshold data -> h",
              "x: Embed h -> x { embed_param { num_output: 3 input_dim: 2 } }"],
    "Parameter": ["x: Parameter  -> x { parameter_param { shape { dim: 2 dim: 6 } } }"],
    "ContinuationIndicator": [
        "m: ContinuationIndicator  -> m { continuation_indicator_param "
        "{ time_step: 2 batch_size: 12 } }",
        "x: LSTM n m -> x { recurrent_param { num_output: 3 } }"],
    **{kind: ["m: Parameter  -> m { parameter_param { shape { dim: 2 dim: 12 } } }",
              f"x: {kind} n m -> x {{ recurrent_param {{ num_output: 3 }} }}"]
       for kind in RECURRENT},
    **{kind: [f"x: {kind} n -> x"] for kind in ("Dropout", "ReLU", "PReLU")},
}  # fmt: skip
BEFORE = [
    "data 2 12 4 4",
    "c: Convolution data -> c { convolution_param { num_output: 12 kernel_size: 1 } }",
    "n: BatchNorm c -> n",
]
BEHIND = ["s: Scale x -> s { scale_param { axis: 0 num_axes: 0 } }",
          "p: Power s -> p { power_param { scale: 0.5 shift: 1.25 } }"]  # fmt: skip


def _second(kind: str, body: str) -> str:
    """The line of a net input "v" that fits as the other bottom of a joining layer."""
    if kind in ("Bias", "Scale"):
        return "v 2" if "axis: 0" in body else "v 12"
    sizes = {"Axpy": "v 2 12", "Crop": "v 2 12 3 3", "Interp": "v 2 3 7 6"}
    return sizes.get(kind, "v 2 12 4 4")


def _nets() -> Dict[str, List[str]]:
    """For each type and each of its parameters a net in which it is surrounded by merges."""
    nets = {kind: [*BEFORE, *lines] for kind, lines in ALONE.items()}
    for kind, bodies in CHOICES.items():
        for body in bodies:
            guard = GUARDS.get(kind, "TanH")
            lines = [f"g: {guard} n -> g", f"x: {kind} g -> x {{ {body} }}"]
            nets[f"{kind} {body}"] = [*BEFORE, *lines]
    for kind, bodies in JOINING.items():
        for body in bodies:
            bottoms = "v n n" if kind == "Axpy" else "n v"
            lines = [f"x: {kind} {bottoms} -> x {{ {body} }}"]
            nets[f"{kind} {body}"] = [BEFORE[0], _second(kind, body), *BEFORE[1:], *lines]
    return {title.strip(): [*lines, *BEHIND] for title, lines in nets.items()}


NETS = _nets()


@pytest.mark.parametrize("title", NETS)
def test_each_type_between_what_merges(merged: Merger, title: str) -> None:
    """Drawn or not, each type stands in a net that merges something, and is judged by Caffe."""
    assert "n" not in merged(*NETS[title]).names


def test_the_mix_has_every_type_of_the_engine() -> None:
    """A layer that the engine learns must be drawn too."""
    other_recipe = {name.lower() for name in vars(Recipe)}
    missing = SUPPORTED - {*ALONE, *CHOICES, *JOINING}
    missing = frozenset(kind for kind in missing if f"_{kind.lower()}" not in other_recipe)
    assert missing == {"caffe_merge.Normalised"}, "which no file has"
