"""The picture of docs/architecture.md, held against the imports in the source."""

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "caffe_merge"

MAP = re.findall(
    r"^    ([a-z_./]+)  ", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE
)


def unit(module: str) -> str:
    """The entry of the map that ``caffe_merge.<module>`` belongs to."""
    first = module.split(".")[0]
    return f"{first}/" if (PACKAGE / first).is_dir() else f"{first}.py"


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that ``path`` imports, without ``caffe_merge.``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "caffe_merge":
            names = [f"caffe_merge.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.startswith("caffe_merge."):
                yield name[len("caffe_merge.") :]


def arrows() -> Dict[str, Set[str]]:
    """For each entry of the map, the entries it imports."""
    out: Dict[str, Set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if module in ("__init__", "__main__"):
            continue
        here = unit(module)
        out.setdefault(here, set()).update(unit(name) for name in imports(path))
        out[here].discard(here)
    return out


ARROWS = arrows()


def test_the_map_names_every_module() -> None:
    assert sorted(MAP) == sorted(ARROWS)


@pytest.mark.parametrize("entry", sorted(ARROWS))
def test_imports_go_one_way(entry: str) -> None:
    below: List[str] = MAP[: MAP.index(entry)]
    assert sorted(ARROWS[entry] - set(below)) == []


def test_passes_see_neither_files_nor_wire_nor_text() -> None:
    assert not ARROWS["passes/"] & {"files/", "text/"}
    for path in (PACKAGE / "passes").glob("*.py"):
        assert {name for name in imports(path) if name.startswith("weights")} <= {"weights.blobs"}


def test_validation_sees_neither_graph_nor_passes() -> None:
    assert not ARROWS["validation/"] & {"passes/", "proof/", "merging/"}


def test_no_module_has_outgrown_one_idea() -> None:
    long = [p.name for p in PACKAGE.rglob("*.py") if len(p.read_text().splitlines()) > 400]
    assert long == []
