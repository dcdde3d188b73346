"""The kinds of notes: what the package makes is what docs/report.md lists."""

import re
from pathlib import Path
from typing import get_args

import caffe_merge
from caffe_merge.notes import Kind

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(caffe_merge.__file__).parent
SOURCE = "".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "notes.py")


def test_every_kind_is_documented_and_no_other() -> None:
    """That every Note is of a `Kind` is for mypy to see."""
    table = (ROOT / "docs" / "report.md").read_text().split("## Kinds of notes")[1]
    rows = re.findall(r"^\| `([a-z-]+)` \|", table.split("\n## ")[0], re.MULTILINE)
    assert sorted(rows) == sorted(get_args(Kind))


def test_every_kind_is_made_somewhere() -> None:
    assert [kind for kind in get_args(Kind) if f'"{kind}"' not in SOURCE] == []
