"""Image files and lists of labels: found, read, and matched with each other."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import FileError, OptionName, UsageError
from caffe_merge.files.places import check_file

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
_FORMATS = ("JPEG", "PNG", "BMP")
_IMAGES, _LABELS = OptionName("images"), OptionName("labels")
_MOST_SHOWN = 40  # characters of a line that is no label


def find(paths: Sequence[str]) -> List[str]:
    """The image files that ``paths`` name: files, and folders with all that is below them.

    What is hidden in a folder is left out: macOS puts a file ``._a.jpg``, which is no image, beside
    ``a.jpg`` on foreign disks and in archives.

    Raises UsageError for a folder without images, and FileError for what is no file.
    """
    images: List[str] = []
    for path in paths:
        if not os.path.isdir(path):
            check_file(path)
            images.append(path)
            continue
        inside: List[str] = []
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside += [
                os.path.join(folder, name)
                for name in names
                if name.lower().endswith(ENDINGS) and not name.startswith(".")
            ]
        if not inside:
            raise UsageError(_IMAGES, f": {path}: no {', '.join(ENDINGS)} in this folder")
        images += sorted(inside)
    return images


def read_labels(path: str) -> Dict[str, int]:
    """Name or path of an image -> class, from lines of ``name class``; UsageError."""
    labels: Dict[str, int] = {}
    try:
        check_file(path)
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except FileError as error:  # which names the file
        raise UsageError(_LABELS, f": {error}") from error
    except OSError as error:
        raise UsageError(_LABELS, f": cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # the bytes are not UTF-8
        raise UsageError(_LABELS, f": {path} is not a text file") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *index = line.strip().rsplit(None, 1)
        if not index or not index[0].isdecimal():
            expected = "expected an image and the index of its class, as 'cat.jpg 281'"
            raise UsageError(f"{path}:{number}: {expected}, found {line[:_MOST_SHOWN]!r}")
        label = int(index[0][:18])
        name = _normal(name)
        if labels.setdefault(name, label) != label:
            raise UsageError(f"{path}:{number}: {name} has class {labels[name]} above")
    return labels


def require_pillow() -> None:
    """Raise UsageError where no image could be read, whatever file it is."""
    try:
        from PIL import Image, ImageOps  # noqa: F401 - only to see that they can be imported
    except ImportError:
        install = ": Pillow is not here: pip install caffe_merge[images]"
        raise UsageError(_IMAGES, install) from None
    except AttributeError as error:  # Pillow 10.3 and later beside numpy 1.20
        older = f": this Pillow needs a newer numpy ({error}), or: pip install 'Pillow<10.3'"
        raise UsageError(_IMAGES, older) from None


def check(paths: Sequence[str]) -> None:
    """Raise UsageError, which names the file, for the first that does not begin as an image."""
    for path in paths:
        with _opened(path):
            pass


def load(path: str, shape: Shape, rgb: bool = False) -> np.ndarray:
    """The pixels of an image, (C, H, W) of ``shape``, 0 to 255, as BGR, RGB or gray.

    Raises UsageError, which names the file.
    """
    channels, height, width = shape
    with _opened(path) as image:
        from PIL import Image, ImageOps

        upright = ImageOps.exif_transpose(image) or image  # as OpenCV's imread has it
        pixels = _of_8_bits(upright).convert("L" if channels == 1 else "RGB")
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(pixels, np.float32)
    if channels == 1:
        return array[None]
    return np.ascontiguousarray((array if rgb else array[:, :, ::-1]).transpose(2, 0, 1))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    """The image, of which Pillow has read the beginning; what it raises names the file."""
    require_pillow()
    from PIL import Image, UnidentifiedImageError

    too_large = Image.DecompressionBombWarning, Image.DecompressionBombError
    try:
        check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                yield image
    except FileError:
        raise
    except UnidentifiedImageError as error:
        problem = f"is no {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} image: convert it first"
        raise UsageError(problem, path=path) from error
    except too_large as error:
        problem = f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels, the most that Pillow reads"
        raise UsageError(f"{problem}: make it smaller first", path=path) from error
    except Exception as error:  # Pillow's readers raise what they come across
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"cannot be read as an image: {reason}", path=path) from error


def _of_8_bits(image: Any) -> Any:
    """A gray image of 16 bits (a PNG's) as one of 8, which Pillow's ``convert`` would clip."""
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))


def labelled(paths: Sequence[str], labels: Optional[Mapping[str, int]]) -> Optional[Sequence[int]]:
    """The class of each image by its path, the end of its path, or its name; UsageError.

    The longest end counts that the list has; it must not be that of another image too.
    """
    if labels is None:
        return None
    index_of = {_normal(name): label for name, label in labels.items()}
    classes: List[int] = []
    missing: List[str] = []
    images: Dict[str, str] = {}  # by the name that the list has for them
    for path in paths:
        name = next((end for end in _ends(path) if end in index_of), None)
        if name is None:
            missing.append(path)
            continue
        other = images.setdefault(name, path)
        if os.path.abspath(other) != os.path.abspath(path):
            problem = f": {name} may be {other} or {path}: give more of the path"
            raise UsageError(_LABELS, problem)
        classes.append(index_of[name])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        expected = f"expected a line '{missing[0]} 0', or with the end of that path"
        raise UsageError(_LABELS, f": no class is given for {missing[0]}{more}: {expected}")
    return classes


def _ends(path: str) -> Iterator[str]:
    """What a list may call a file: as it is called here, its whole path, and all ends of that."""
    yield _normal(path)
    whole = _normal(os.path.abspath(path))
    yield whole
    parts = whole.lstrip("/").split("/")
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def _normal(path: str) -> str:
    return os.path.normpath(path).replace(os.sep, "/")
