"""From data to one HTML file, by the templates of this folder.

Names come out of files of anybody. Whatever a template prints has its control characters, line
ends and marks of direction made visible and its HTML escaped, and the page's policy allows no
script but its own: names are text and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any, Callable, Dict, Sequence

from caffe_merge import __version__
from caffe_merge.errors import UsageError, spelled
from caffe_merge.files.outputs import (
    check_ending,
    check_folders,
    check_outputs,
    check_report_free,
)
from caffe_merge.files.replacement import Replacement
from caffe_merge.wording import visible

GENERATOR = "caffe_merge.page/1"
ENDINGS = (".html", ".htm")
_TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
_HEAD = 256  # bytes of a page, which has its generator among them


def is_page_name(path: str) -> bool:
    """Whether a report of this name is to be a page."""
    return path.lower().endswith(ENDINGS)


def is_page(path: str) -> bool:
    """Whether the file at ``path`` is a page of ours, of any version."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(_HEAD)
    except OSError:
        return False
    return GENERATOR.split("/")[0].encode() + b"/" in head


def beside(path: str) -> str:
    """The name of a page about the file at ``path``: its stem with ``.html``."""
    return os.path.splitext(path)[0] + ENDINGS[0]


def check(path: str, inputs: Sequence[str]) -> None:
    """Refuse a page that could not be made, or would be written over an input."""
    check_ending(path, ENDINGS, "a page")
    require()
    check_outputs(inputs, (path,))
    check_folders((path,))


def check_free(path: str) -> None:
    """Refuse a page in the place of anything but a page."""
    check_report_free(path, is_page)


def require() -> None:
    """Raise UsageError where the library that makes pages is not installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise UsageError("a page needs Jinja2: pip install caffe_merge[html]") from None


def write(
    path: str,
    template: str,
    title: str,
    content: Dict[str, Any],
    name_of: Callable[[str], str] = str,
) -> None:
    """Write the page that ``template`` makes of ``content``; whole or not at all.

    ``content["data"]`` is what its script reads. Options are called by ``name_of`` of their names
    in the library. Raises UsageError without Jinja2.
    """

    def printed(value: Any) -> Any:
        return _shown(value, name_of)

    page = (
        _environment(printed)
        .get_template(template)
        .render(
            title=title,
            version=__version__,
            generator=GENERATOR,
            **_script(),
            **{**content, "data": shown(content.get("data", {}), name_of)},
        )
    )
    with Replacement(path) as place:
        place.handles[0].write(page.encode("utf-8", "backslashreplace"))
        place.commit()


def shown(data: Any, name_of: Callable[[str], str] = str) -> Any:
    """Plain data with every text in it made visible."""
    if isinstance(data, dict):
        return {key: shown(value, name_of) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [shown(value, name_of) for value in data]
    return _shown(data, name_of)


def _shown(value: Any, name_of: Callable[[str], str]) -> Any:
    """A text made visible; what is HTML already, or no text, stays as it is."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return visible(spelled(value, name_of)) if is_text else value


def _environment(printed: Callable[[Any], Any]) -> Any:
    """Templates that print ``printed(value)`` for each value."""
    require()
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=printed,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _script() -> Dict[str, Any]:
    """The script of the page, and what allows it alone."""
    from markupsafe import Markup

    with open(os.path.join(_TEMPLATES, "page.js"), encoding="utf-8") as handle:
        script = handle.read()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": Markup(script), "script_hash": f"sha256-{digest}"}
