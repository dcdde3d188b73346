"""The building of docs/architecture.md, held against the source."""

import ast
import re
from functools import lru_cache
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, Set, Tuple, Union

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "caffe_merge"
CODE = [path for name in ("caffe_merge", "tests", "tools", "benchmarks", "examples")
        for path in sorted((ROOT / name).rglob("*.py"))]  # fmt: skip

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def building() -> Dict[str, str]:
    """The lines of the page's list, a folder in a folder by its path: its sentence."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = page.split("## The building")[1].split("##")[0]
    lines, outer = {}, ""
    for indent, name, sentence in re.findall(
        r"^    ( *)([a-z_]+(?:\.py|/)) +(\S.*)$", drawn, re.MULTILINE
    ):
        outer = outer if indent else name
        lines[outer + name if indent else name] = sentence
    return lines


FLOORS = building()
ORDER = list(FLOORS)

# What is not yet as it should be. An entry that is no longer true fails: take it out.
LONG_FUNCTIONS: FrozenSet[str] = frozenset()
WIDE_SIGNATURES: FrozenSet[str] = frozenset()
# Files that the pages name before they are there.
TO_COME: FrozenSet[str] = frozenset()

# Names that hide what a thing is: a result, what is expected, a layer, options?
HIDING: FrozenSet[str] = frozenset(
    ("answer", "found", "given", "known", "made", "one", "own", "there", "told", "wanted")
)

MOST_FILES, MOST_FOLDERS = 8, 12
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 50, 8


def name_of(path: Path) -> str:
    """The module at ``path``, without ``caffe_merge.``; "" is the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Dict[str, Path] = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@lru_cache(maxsize=None)  # to parse all files takes longer than to look at them
def nodes(path: Path) -> Tuple[ast.AST, ...]:
    """All that stands in the file ``path``."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that ``path`` imports anywhere, inside functions too."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, module = name.partition(".")
            if package != "caffe_merge":
                continue
            while module not in MODULES:  # a name in a module
                module = module.rpartition(".")[0]
            yield module


GRAPH: Dict[str, Set[str]] = {
    name: set(imports(path)) - {name, ""} for name, path in MODULES.items()
}


def floor(module: str) -> str:
    """The entry of the list that ``module`` belongs to: its innermost folder that has one."""
    parts = MODULES[module].relative_to(PACKAGE).parts
    folders = ["/".join(parts[:depth]) + "/" for depth in range(len(parts) - 1, 0, -1)]
    return next((folder for folder in folders if folder in FLOORS), (folders or parts)[-1])


def floors_below() -> Dict[str, Set[str]]:
    """For each floor, the floors that it imports."""
    out: Dict[str, Set[str]] = {}
    for module, others in GRAPH.items():
        if module not in ("", "__main__"):
            here = floor(module)
            out.setdefault(here, set()).update(map(floor, others))
            out[here].discard(here)
    return out


ARROWS = floors_below()


def reached(start: str) -> Set[str]:
    """The modules that ``start`` imports, and those that these import, and so on."""
    out: Set[str] = set()
    waiting = [start]
    while waiting:
        new = GRAPH[waiting.pop()] - out
        out |= new
        waiting += new
    return out


def circles() -> Set[FrozenSet[str]]:
    """The sets of modules of which each imports, in the end, all the others."""
    behind = {module: reached(module) for module in GRAPH}
    return {
        frozenset(other for other in behind[module] if module in behind[other])
        for module in GRAPH
        if module in behind[module]
    }


Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


def functions() -> Iterator[Tuple[str, Function]]:
    """Every function of the repository, by its module (short if it is the package's) and name."""
    for path in CODE:
        inside = PACKAGE in path.parents
        module = name_of(path) if inside else path.relative_to(ROOT).with_suffix("").as_posix()
        for node in nodes(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{module}.{node.name}", node


def test_the_building_has_every_module() -> None:
    assert sorted(ORDER) == sorted(ARROWS)


@pytest.mark.parametrize("entry", sorted(ARROWS))
def test_imports_go_down(entry: str) -> None:
    below = ORDER[ORDER.index(entry) + 1 :]
    assert sorted(ARROWS[entry] - set(below)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles() == frozenset()


def test_the_top_has_few_files_and_folders() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FILES
    assert len(list(PACKAGE.glob("*/__init__.py"))) <= MOST_FOLDERS


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*/__init__.py")), ids=name_of)
def test_a_folder_says_in_one_sentence_what_it_is(path: Path) -> None:
    message = ast.get_docstring(ast.parse(path.read_text()))
    assert message
    assert "\n" not in message
    assert message.endswith(".")
    entry = name_of(path).replace(".", "/") + "/"
    if entry.count("/") == 1 or entry in FLOORS:
        assert FLOORS[entry] == message[:-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`((?:[\w.]+/)+(?:[\w.]+\.\w+)?)`", page.read_text())
    places = ROOT, PACKAGE
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    missing = {re.sub("^caffe_merge/", "", name) for name in missing}
    assert sorted(missing - TO_COME) == []


def test_passes_see_neither_files_nor_wire_nor_text() -> None:
    for module, others in GRAPH.items():
        if module.startswith("passes"):
            seen = {name for name in others if name.startswith(("files", "formats.text"))}
            readers = {name for name in others if name.startswith("formats.weights")}
            assert not seen
            assert readers <= {"formats.weights.blobs"}


def test_validation_sees_neither_graph_nor_passes() -> None:
    assert not {name for name in ARROWS["validation/"] if name.startswith(("passes", "merging"))}


def test_no_file_has_outgrown_one_idea() -> None:
    assert [p.name for p in CODE if len(p.read_text().splitlines()) > MOST_LINES] == []


def test_functions_are_short() -> None:
    long: List[str] = []
    for name, node in functions():
        assert node.end_lineno is not None
        if node.end_lineno - node.lineno >= MOST_FUNCTION_LINES:
            long.append(name)
    assert sorted(long) == sorted(LONG_FUNCTIONS)


def test_signatures_are_narrow() -> None:
    wide: List[str] = []
    for name, node in functions():
        arguments = node.args
        args = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if len([item for item in args if item.arg != "self"]) > MOST_PARAMETERS:
            wide.append(name)
    assert sorted(wide) == sorted(WIDE_SIGNATURES)


def bound_names(path: Path) -> Iterator[str]:
    """The names that ``path`` gives to variables, arguments, attributes, functions and classes."""
    for node in nodes(path):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name


@pytest.mark.parametrize("name", MODULES)
def test_annotations_take_no_time(name: str) -> None:
    """They are left unevaluated, but where a NamedTuple evaluates its own anyway."""
    text = MODULES[name].read_text()
    if "def " not in text or "(NamedTuple)" in text or name == "validation.caffe_worker":
        return  # that one runs on Python 2.7 too
    assert "\nfrom __future__ import annotations\n" in text


def test_start_up_is_not_spent_on_random_numbers() -> None:
    """Importing numpy.random takes as long as merging a small net: see validation.seeded."""
    assert [name for name, path in MODULES.items() if "np.random" in path.read_text()] == []


def test_names_say_what_a_thing_is() -> None:
    hiding = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in CODE
        for name in bound_names(path)
        if name.strip("_").lower() in HIDING
    ]
    assert hiding == []


# Modules without a test file of their name, and the one that holds what they do.
TESTED_IN: Dict[str, str] = {
    "__main__": "command/test_process.py",
    "batching.content": "batching/test_pairing.py",
    "batching.journal": "batching/test_batch.py",
    "batching.outcome": "command/test_batch.py",
    "batching.report": "command/test_batch.py",
    "batching.worker": "batching/test_pool.py",
    "command.checking": "passes/targets/test_check.py",
    "command.console": "command/test_cli.py",
    "command.library": "batching/test_batch.py",
    "command.lists": "command/test_cli.py",
    "command.printing": "command/test_messages.py",
    "errors": "test_bad_input.py",
    "files.identity": "files/test_outputs.py",
    "files.signals": "merging/test_interrupted.py",
    "files.workplace": "files/test_replacement.py",
    "layers.enet_dropout": "layers/test_identity.py",
    "layers.layer": "net/test_joining.py",
    "layers.norms.formulas": "layers/norms/test_styles.py",
    "layers.norms.recognise": "layers/norms/test_styles.py",
    "layers.norms.rules": "layers/norms/test_styles.py",
    "layers.range_table": "layers/test_ranges.py",
    "layers.shapes.cost": "layers/shapes/test_outputs.py",
    "layers.shapes.geometry": "layers/shapes/test_outputs.py",
    "layers.shapes.learned": "layers/shapes/test_outputs.py",
    "layers.spec": "layers/test_fork_fields.py",
    "layers.standard": "layers/norms/test_styles.py",
    "merging.convert": "command/test_cli.py",
    "merging.planning": "command/test_cli.py",
    "merging.report": "merging/test_driver.py",
    "merging.report_file": "files/test_outputs.py",
    "command.actions": "command/test_calling.py",
    "command.completion": "command/test_calling.py",
    "command.validating": "merging/test_approximation.py",
    "merging.originals": "merging/test_approximation.py",
    "validation.inexact": "merging/test_approximation.py",
    "merging.request": "command/test_cli.py",
    "merging.rewiring": "merging/test_raw_input.py",
    "layers.shapes.detection": "reference/test_forks.py",
    "layers.shapes.recurrent": "reference/test_recurrent.py",
    "layers.shapes.rules": "layers/shapes/test_outputs.py",
    "layers.shapes.resampling": "reference/test_forks.py",
    "net.propagation": "net/test_loading.py",
    "net.saving": "net/test_deployment_files.py",
    "net.shared": "net/test_joining_shared.py",
    "net.text_blobs": "net/test_same_as_caffe.py",
    "net.training": "net/test_deployment.py",
    "net.weight_notes": "net/test_joining.py",
    "net.version": "net/test_graph.py",
    "passes.rewriting.channel_classes": "passes/test_equalize.py",
    "pages.layers": "pages/test_merge_page.py",
    "layers.moving": "passes/rewriting/test_affine_propagation.py",
    "passes.rewriting.backward_folding": "passes/test_fold_through.py",
    "passes.rewriting.branches": "passes/test_merge_branches.py",
    "passes.rewriting.channel_axis": "passes/test_drop_dead_channels.py",
    "passes.rewriting.channel_links": "passes/test_drop_dead_channels.py",
    "passes.rewriting.dead_channels": "passes/test_drop_dead_channels.py",
    "passes.rewriting.forward_folding": "passes/test_fold_forward.py",
    "passes.rewriting.removable_channels": "passes/test_drop_dead_channels.py",
    "passes.rewriting.layer_kernels": "passes/test_merge_branches.py",
    "passes.rewriting.rewrite": "merging/test_driver.py",
    "passes.forms.as_scale": "passes/test_forms.py",
    "passes.forms.clip_as_relu6": "passes/test_forms.py",
    "passes.forms.depthwise_convolution": "passes/test_forms.py",
    "passes.forms.drop_flatten": "passes/test_forms.py",
    "passes.forms.eltwise_pairs": "passes/test_forms.py",
    "passes.rewriting.form": "passes/test_forms.py",
    "passes.forms.grouped_convolution": "passes/test_forms.py",
    "passes.forms.norm_factor": "passes/test_forms.py",
    "passes.forms.product_untransposed": "passes/test_forms.py",
    "passes.forms.shared_slope": "passes/test_forms.py",
    "passes.forms.stored_statistics": "passes/test_forms.py",
    "passes.forms.window_sides": "passes/test_forms.py",
    "passes.forms.written_defaults": "passes/test_forms.py",
    "algebra.sizes": "passes/test_drop_crop.py",
    "passes.rewriting.axis_sizes": "passes/test_drop_crop.py",
    "algebra.dense": "passes/test_merge_product.py",
    "algebra.orders": "passes/test_merge_permutes.py",
    "passes.rewriting.affine_runs": "passes/test_fold_affine.py",
    "merging.target_forms": "passes/test_forms.py",
    "passes.rewriting.pruning": "passes/test_drop_dead_channels.py",
    "merging.proof.plans": "merging/proof/test_regions.py",
    "merging.proof.sampling": "merging/proof/test_paths.py",
    "merging.proof.wiring": "merging/proof/test_regions.py",
    "reference.detection": "reference/test_forks.py",
    "reference.resampling": "reference/test_forks.py",
    "formats.schema.messages": "formats/schema/test_schema.py",
    "formats.text.chunks": "formats/text/upgrade/test_v1.py",
    "formats.text.splices": "formats/text/upgrade/test_v1.py",
    "passes.rewriting.elementwise": "passes/test_merge_permutes.py",
    "formats.text.upgrade.padding": "formats/text/upgrade/test_v0.py",
    "formats.text.upgrade.reading": "formats/text/upgrade/test_v0.py",
    "formats.text.values": "formats/text/test_view.py",
    "validation.beyond": "validation/test_responses.py",
    "validation.classes": "validation/test_images.py",
    "validation.opencv_net": "validation/test_opencv.py",
    "validation.opencv_worker": "validation/test_opencv.py",
    "validation.engines": "validation/test_validate.py",
    "validation.findings": "validation/test_wrong_pairs.py",
    "validation.judging": "validation/test_validate.py",
    "validation.loaded": "validation/test_validate.py",
    "validation.opening": "validation/test_validate.py",
    "validation.reference_judge": "validation/test_wrong_pairs.py",
    "validation.reference_worker": "validation/test_validate.py",
    "validation.side_by_side": "validation/test_wrong_pairs.py",
    "validation.worker_judge": "validation/test_wrong_pairs.py",
    "validation.wrong_runs": "validation/test_other_scripts.py",
    "formats.weights.formats": "formats/weights/test_hdf5.py",
    "formats.weights.index": "formats/weights/test_caffemodel.py",
    "formats.weights.hdf5_reader": "formats/weights/test_hdf5_links.py",
    "wording": "test_printing.py",
}
NO_BEHAVIOUR = {"arrays", "reference.layer"}  # names of types, an exception


def own_test(module: str) -> Path:
    """Where the tests of ``module`` are looked for: the mirrored folder, a file of its name."""
    *folders, name = module.split(".")
    return Path(__file__).parent.joinpath(*folders, f"test_{name.lstrip('_')}.py")


def test_every_module_has_its_tests() -> None:
    modules = {name for name, path in MODULES.items() if path.name != "__init__.py"}
    without = {name for name in modules if not own_test(name).exists()}
    assert without - NO_BEHAVIOUR == {*TESTED_IN}
    missing = [test for test in TESTED_IN.values() if not (ROOT / "tests" / test).exists()]
    assert missing == []


def test_tests_have_the_folders_of_the_package() -> None:
    """But for tests/corpus and tests/fuzz, of published files and of random bytes."""
    folders = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    ours = {path.relative_to(PACKAGE).parent for path in MODULES.values()}
    assert {path.parent for path in folders} - ours <= {Path("corpus"), Path("fuzz")}
