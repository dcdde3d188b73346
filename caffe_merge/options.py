"""What a user may ask of a merge. An option is declared here once; passes, commands, help read it.

The library calls an option by its name here, ``swap_rgb``; on the command line it is
``--swap-rgb``. A text that speaks of one names it by ``OptionName``, for each to write its way.
"""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from caffe_merge.errors import OptionName, Text, UsageError, meant


class Declared(NamedTuple):
    """One option: its value where nobody asks, its help, and how the command line takes it.

    ``choices`` are the values that a string may have. ``repeatable`` collects several values, a
    ``switch`` takes none, and ``optional`` takes one or, for true, none. Without ``help`` it is no
    flag of its own.
    """

    default: Any
    help: str = ""
    metavar: str = ""
    choices: Tuple[str, ...] = ()
    repeatable: bool = False
    switch: bool = False
    optional: bool = False


def _option(default: Any, help_: str = "", **how: Any) -> Any:
    """A class attribute of Options; an instance has the value in its place."""
    return Declared(default, help_, **how)


class Options:
    """The options of one merge, checked. Raises UsageError for one that is none, or a bad choice.

    Names of passes and of layers are checked by who knows them.
    """

    only: Sequence[str] = _option(
        (),
        "run this pass alone (caffe-merge passes lists them); repeatable",
        metavar="PASS",
        repeatable=True,
    )
    skip: Sequence[str] = _option((), "leave it out; repeatable", metavar="PASS", repeatable=True)
    keep: Sequence[str] = _option(
        (), "leave it as it is; repeatable", metavar="LAYER", repeatable=True
    )
    keep_shared: bool = _option(False, "unshare no weights: what needs it stays", switch=True)
    serial: str = _option(
        "auto",
        "merge consecutive linear layers: where nothing grows (auto), wherever it is exact "
        "(always), or never",
        choices=("auto", "always", "never"),
    )
    affine_as: Optional[str] = _option(
        None,
        "what is left per channel becomes a depthwise convolution of 1x1 (conv), or such "
        "convolutions become Scales; without it both stay as they are",
        choices=("conv", "scale"),
    )
    equalize: bool = _option(
        False,
        "bring the ranges of channels together across layers, for 8 bits with one scale per tensor",
        switch=True,
    )
    absorb_bias: bool = _option(
        False,
        "move high biases of ReLU channels into the layers that read them, for 8 bits: not exact, "
        "its effect is measured",
        switch=True,
    )
    target: Optional[str] = _option(
        None,
        "write the pair in the form that this program takes; list names the programs",
        metavar="T",
    )
    in_place: bool = _option(
        False,
        "have layers write over their bottom where nobody else reads it: less memory in Caffe",
        switch=True,
    )
    mean: Any = _option(
        None,
        "take raw pixels as input: what is subtracted from them, one value, one a channel (in "
        "the order in which the net reads them), or a .npy file or mean.binaryproto",
        metavar="[BLOB=]104,117,123",
    )
    scale: Any = _option(
        None,
        "likewise: what they are multiplied with then, one value or one a channel",
        metavar="[BLOB=]0.017",
    )
    swap_rgb: Union[bool, str] = _option(
        False,
        "likewise: pixels come in the other order of channels, RGB or BGR, than the net reads",
        metavar="BLOB",
        optional=True,
    )
    input_layer: bool = _option(
        False,
        Text(
            "what cannot be folded of ",
            *(OptionName("mean"), ", ", OptionName("scale"), " and ", OptionName("swap_rgb")),
            " stays as a layer on it",
        ),
        switch=True,
    )
    bn_style: Optional[str] = _option(
        None,
        "read the BatchNorm-like layers that it fits as those of this fork (caffe-merge styles)",
        metavar="STYLE",
    )
    input_shapes: Optional[Mapping[str, Tuple[int, ...]]] = _option(None)

    def __init__(self, **values: Any) -> None:
        for name, declared in DECLARED.items():
            value = values.pop(name, declared.default)
            if declared.choices and value not in (*declared.choices, declared.default):
                choices = ", ".join(declared.choices)
                raise UsageError(OptionName(name), f": expected one of {choices}, found {value!r}")
            if declared.repeatable and isinstance(value, str):
                value = (value,)  # one name, not its letters
            setattr(self, name, value)
        if values:
            name = min(values)
            raise UsageError(f"a merge has no option {name!r}{meant(name, DECLARED)}")

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in DECLARED}
        changed = [f"{n}={v!r}" for n, v in values.items() if v != DECLARED[n].default]
        return f"Options({', '.join(changed)})"

    @property
    def of_pixels(self) -> bool:
        """Whether anything is said of raw pixels."""
        numbers = self.mean is not None or self.scale is not None
        return numbers or self.swap_rgb is not False

    def with_(self, **changes: Any) -> "Options":
        """The same options but for ``changes``."""
        return Options(**{**{name: getattr(self, name) for name in DECLARED}, **changes})


DECLARED: Dict[str, Declared] = {
    name: value for name, value in vars(Options).items() if isinstance(value, Declared)
}


def mean_file(value: Any) -> Optional[str]:
    """The path in the value of ``mean``, if it names a file and no numbers."""
    if not isinstance(value, str):
        return None
    path = value.partition("=")[2] if "=" in value else value
    try:
        for part in path.split(","):
            float(part)
    except ValueError:
        return path if path and "," not in path else None
    return None
