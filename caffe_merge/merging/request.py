"""The arguments of one conversion, made from flags by name.

The command line, the rows of a list and callers of the library all give these plain values, which
can be sent to another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from caffe_merge.errors import OptionName, UsageError
from caffe_merge.files.outputs import default_output
from caffe_merge.files.places import check_file
from caffe_merge.layers.state import TEST, TRAIN, State
from caffe_merge.merging.planning import Conversion
from caffe_merge.options import DECLARED, Options, mean_file

if TYPE_CHECKING:
    from caffe_merge.net.loading import Net
    from caffe_merge.net.saving import Progress

Flags = Mapping[str, Any]
_IMAGES = OptionName("images")
_OF_IMAGES = ("labels", "image_mean", "image_scale", "image_rgb")


def conversion(flags: Flags) -> Conversion:
    """The Conversion of these flags: they have the names of its fields and of its options."""
    fields = {name: value for name, value in flags.items() if name in Conversion._fields}
    requested = {name: value for name, value in flags.items() if name in DECLARED}
    for output, path in (("output_model", flags["model"]), ("output_weights", flags["weights"])):
        fields[output] = fields.get(output) or default_output(path)
    fields["options"] = Options(**{**requested, "input_shapes": shapes(flags)})
    return Conversion(**fields, state=state(flags), also_read=input_files(flags))


def net(flags: Flags) -> Net:
    """The net of these flags, loaded as a merge would load it."""
    from caffe_merge.net.loading import load

    return load(
        flags["model"],
        flags["weights"],
        state(flags),
        shapes(flags),
        deploy=flags["deploy"],
        proto=flags["proto"],
        use_stored_statistics=flags["use_stored_statistics"],
    )


def judging(
    flags: Flags, progress: Optional[Progress] = None, on_images: Optional[Progress] = None
) -> Dict[str, Any]:
    """Keyword arguments of caffe_merge.validation.validate; none where no engine is to judge.

    ``progress`` is called after each blob, ``on_images`` after each of the user's images.
    """
    from caffe_merge.validation.registry import MAY_BE_NONE, NONE

    if flags.get(MAY_BE_NONE) == NONE:
        _needs_images(flags)
        return {}
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
        "images": images(flags, on_images),
    }


def images(flags: Flags, progress: Optional[Progress] = None) -> Any:
    """The ImageOptions of these flags; the text's transform_param has what they do not say."""
    if not _needs_images(flags):
        return None
    from caffe_merge.validation.images import ImageOptions

    paths, labels = _image_files(flags)
    mean, scale = _transformation(flags)
    return ImageOptions(paths, mean, scale, flags["image_rgb"], labels, progress)


def _image_files(flags: Flags) -> Tuple[List[str], Optional[Dict[str, int]]]:
    """The images and labels, checked before anything runs."""
    from caffe_merge.validation import image_files

    image_files.require_pillow()
    paths = image_files.find(flags["images"])
    labels = None if flags["labels"] is None else image_files.read_labels(flags["labels"])
    image_files.check(paths)
    image_files.labelled(paths, labels)
    return paths, labels


def check_files(flags: Flags) -> None:
    """Raise UsageError or FileError for what is wrong with the files beside the pair's own."""
    from caffe_merge.validation.inputs import load_files

    for path in read_files(flags):
        check_file(path)
    load_files(flags["input"])
    if _needs_images(flags):
        _image_files(flags)


def _needs_images(flags: Flags) -> bool:
    """Whether images are given; UsageError where a flag is about them alone, or no engine is."""
    from caffe_merge.validation.registry import MAY_BE_NONE, NONE

    if flags["images"]:
        if flags.get(MAY_BE_NONE) == NONE:
            raise UsageError(_IMAGES, " needs an engine, not ", OptionName(MAY_BE_NONE), f" {NONE}")
        return True
    for name in _OF_IMAGES:
        if flags[name] not in (None, False):
            raise UsageError(OptionName(name), " needs ", _IMAGES)
    return False


def _transformation(flags: Flags) -> Tuple[Tuple[float, ...], float]:
    """Mean and scale of images: by the flags, else by the first transform_param of the text."""
    from caffe_merge.net import loading

    text_alone = loading.load(flags["model"], None, state(flags), proto=flags["proto"])
    layers = sorted(text_alone.all_layers, key=lambda layer: not layer.active)
    texts = (layer.param.transform_param for layer in layers)
    transform = next((text for text in texts if text.ByteSize()), None)
    mean, scale = flags["image_mean"], flags["image_scale"]
    if transform is None:
        return mean or (0.0,), scale or 1.0
    if mean is None and transform.mean_file:
        raise UsageError(
            OptionName("image_mean"), f" is needed: the text names a file, {transform.mean_file!r}"
        )
    return mean or tuple(transform.mean_value) or (0.0,), scale or transform.scale


def state(flags: Flags) -> State:
    """The NetState that the net is built for."""
    return State(TRAIN if flags["phase"] == "TRAIN" else TEST, flags["level"], flags["stage"])


def shapes(flags: Flags) -> Dict[str, Any]:
    """The shapes of blobs that the text gives none for."""
    input_shapes = dict(flags.get("input_shapes") or {})
    if flags["input_shape"]:
        from caffe_merge.validation.inputs import parse_shapes

        input_shapes.update(parse_shapes(flags["input_shape"]))
    return input_shapes


def input_files(flags: Flags) -> List[str]:
    """The files that ``--input`` names."""
    named = flags.get("input") or ()
    return [option.partition("=")[2] for option in named if option.partition("=")[2]]


def read_files(flags: Flags) -> List[str]:
    """All that is read besides the pair: a schema, a mean, labels, inputs of the user's own."""
    named = (flags["proto"], mean_file(flags["mean"]), flags["labels"])
    return [*(path for path in named if path is not None), *input_files(flags)]
