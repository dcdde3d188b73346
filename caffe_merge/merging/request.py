"""What a caller asks of one conversion, by the names of flags, as the calls that do it take it.

The command line, the rows of a list and the library's callers all say it so: plain values, which
another process can be sent.
"""

from typing import Any, Dict, List, Mapping, Optional

from caffe_merge.files import default_output
from caffe_merge.layers.state import TEST, TRAIN, State
from caffe_merge.merging.convert import Conversion
from caffe_merge.net import pixels
from caffe_merge.net.saving import Progress
from caffe_merge.options import DECLARED, Options

Flags = Mapping[str, Any]


def conversion(flags: Flags) -> Conversion:
    """The Conversion of these flags: they have the names of its fields and of its options."""
    given = {name: value for name, value in flags.items() if name in Conversion._fields}
    asked = {name: value for name, value in flags.items() if name in DECLARED}
    for output, path in (("output_model", flags["model"]), ("output_weights", flags["weights"])):
        given[output] = given.get(output) or default_output(path)
    given["options"] = Options(**{**asked, "input_shapes": shapes(flags)})
    return Conversion(**given, state=state(flags), also_read=input_files(flags))


def judging(flags: Flags, progress: Optional[Progress] = None) -> Dict[str, Any]:
    """Keyword arguments of caffe_merge.validation.validate."""
    from caffe_merge.validation.inputs import load_files

    return {
        "limit": flags["limit"],
        "seed": flags["seed"],
        "scale": flags["input_scale"],
        "shapes": shapes(flags),
        "files": load_files(flags["input"]),
        "caffe_python": flags["caffe_python"],
        "time_limit": flags["time_limit"],
        "state": state(flags),
        "allow_unseen": flags["allow_unseen"],
        "progress": progress,
    }


def state(flags: Flags) -> State:
    """The NetState that the net is built for."""
    return State(TRAIN if flags["phase"] == "TRAIN" else TEST, flags["level"], flags["stage"])


def shapes(flags: Flags) -> Dict[str, Any]:
    """The shapes of blobs that the text gives none for."""
    given = dict(flags.get("input_shapes") or {})
    if flags["input_shape"]:
        from caffe_merge.validation.inputs import parse_shapes

        given.update(parse_shapes(flags["input_shape"]))
    return given


def input_files(flags: Flags) -> List[str]:
    """The files that ``--input`` names."""
    named = flags.get("input") or ()
    return [option.partition("=")[2] for option in named if option.partition("=")[2]]


def read_files(flags: Flags) -> List[str]:
    """All that is read besides the pair: a schema, a mean, inputs of the user's own."""
    named = (flags["proto"], pixels.mean_file(flags["mean"]))
    return [*(path for path in named if path is not None), *input_files(flags)]
