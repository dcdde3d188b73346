"""From data to a page: nothing in it but what we wrote, whatever names say."""

import base64
import builtins
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from caffe_merge.errors import UsageError
from caffe_merge.pages import rendering
from caffe_merge.wording import visible
from tests.pages.parsing import Page

pytestmark = pytest.mark.usefixtures("jinja")


def test_a_page_loads_nothing_and_allows_its_own_script_alone(tmp_path: Path) -> None:
    rendering.write(str(tmp_path / "p.html"), "base.html", "a title", {})
    page = Page(tmp_path / "p.html")
    loading = {"src", "href", "action", "srcset", "poster", "background"}
    urls = [e[name] for e in page.elements for name in loading & e.attributes.keys()]
    assert urls == ["data:,"]
    assert "url(" not in page.source
    assert "@import" not in page.source
    data, script = page.all("script")
    assert data["type"] == "application/json"
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    (policy,) = (e["content"] for e in page.all("meta") if "http-equiv" in e.attributes)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert unsafe not in script.text


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\" onmouseover='alert(1)",
        "]]>--><!--",
        "{{ 7 * 7 }}",
        "\x1b]0;owned\x07",
        "\u202etxt.exe",
        "a\nb\u2028c",
        "\U0010ffe9",
    ],
)
def test_what_a_title_says_is_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.html"
    rendering.write(str(path), "base.html", text, {"data": {"names": [text]}})
    page = Page(path)
    plain = tmp_path / "plain.html"
    rendering.write(str(plain), "base.html", "plain", {"data": {"names": ["plain"]}})
    assert [e.tag for e in page.elements] == [e.tag for e in Page(plain).elements]
    (title,) = page.all("title")
    assert title.text == visible(text)
    assert page.data == {"names": [visible(text)]}
    assert re.findall(r"[^\n -\U0010ffff]|\u202e|\u2028|[\x7f-\x9f]", page.source) == []


def test_a_page_is_known_again(tmp_path: Path) -> None:
    path = tmp_path / "p.html"
    rendering.write(str(path), "base.html", "x" * 5000, {})
    assert rendering.is_page(str(path))
    path.write_text("<!DOCTYPE html><title>my own caffe_merge notes</title>")
    assert not rendering.is_page(str(path))
    assert not rendering.is_page(str(tmp_path / "none.html"))
    assert [rendering.is_page_name(n) for n in ("R.HTML", "r.htm", "r.json", "html")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install caffe_merge\[html\]"):
        rendering.require()
