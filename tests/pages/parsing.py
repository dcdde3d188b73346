"""A page as tests look at it: its elements, and what each says."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from caffe_merge.command.cli import main
from tests.nets import Pair

_EMPTY = {"meta", "link", "input", "br"}  # elements without an end
_DRAWN = {"path", "rect", "circle"}  # of SVG, which end themselves


class Element:
    """An element: its tag, its attributes, its own text and that of all in it."""

    def __init__(self, tag: str, attributes: Dict[str, Optional[str]]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.text = ""

    def __getitem__(self, name: str) -> str:
        return self.attributes[name] or ""

    @property
    def classes(self) -> List[str]:
        """The names of its classes."""
        return (self.attributes.get("class") or "").split()


class Page(HTMLParser):
    """A page that was read. Every element is closed in its place, or AssertionError."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.elements: List[Element] = []
        self._open: List[Element] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        """Write down an element."""
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in _EMPTY:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        """Write down an element that has nothing in it."""
        assert tag in _DRAWN
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the element."""
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        """Text of all that is open."""
        for element in self._open:
            element.text += data

    def all(self, tag: str, class_: str = "") -> List[Element]:
        """The elements of this tag and class, in order."""
        return [e for e in self.elements if e.tag == tag and (not class_ or class_ in e.classes)]

    def id(self, name: str) -> Element:
        """The element of this id."""
        (element,) = (e for e in self.elements if e.attributes.get("id") == name)
        return element

    @property
    def data(self) -> Any:
        """What its script reads."""
        return json.loads(self.id("data").text)

    def boxes(self, side: int) -> Dict[str, Element]:
        """The boxes of one net by the name in them."""
        out: Dict[str, Element] = {}
        number = -1
        current = None
        for element in self.elements:
            if "side" in element.classes:
                number += 1
            if "box" in element.classes:
                current = element
            if number == side and current is not None and "name" in element.classes:
                out[element.text] = current
                current = None
        return out


def report_page(pair: Pair, *flags: str, command: str = "merge", status: int = 0) -> Page:
    """The page that ``--report`` writes of a command on a pair; its exit status is ``status``."""
    path = pair[0].parent / "report.html"
    assert main([command, *map(str, pair), "--report", str(path), "-q", *flags]) == status
    return Page(path)
