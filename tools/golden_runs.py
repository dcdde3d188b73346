"""What tools/golden.py runs: the inputs, and one table of options.

To add options, add a row to OPTION_SETS; to add a bad input or a wrong flag, a row to BAD_RUNS; to
add two pairs that are compared with each other, a row to VALIDATIONS.
"""

import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 120_000_000  # bytes of seeded weights; a net that needs more is only inspected
LARGE = 30_000_000  # bytes; such a net is merged once
EMPTY_NET = b"\n\x01n"  # a caffemodel without layers: a name, "n"
NO_WEIGHTS = b"\xa2\x06\x03\n\x01-"  # a caffemodel of one layer "-" without blobs: all is filled in
TIMEOUT = 120.0  # seconds
HOSTILE = {"filler-memory": 60.0, "slow-number": 5.0}  # seconds for what eats memory or time

Content = Union[bytes, Path]
Files = Dict[str, Content]


class Input(NamedTuple):
    """A net that runs are made of: ``files`` by name, and ``flags`` that it needs."""

    group: str
    name: str
    files: Files
    model: str
    weights: Optional[str] = None
    flags: Tuple[str, ...] = ()


class Run(NamedTuple):
    """One command, run in a folder that has ``files`` only."""

    id: str
    files: Files
    words: List[str]
    seconds: float = TIMEOUT


class OptionSet(NamedTuple):
    """A command for each input of ``groups``.

    In ``words``, PAIR stands for --model, --weights and the input's own flags, MODEL for the same
    without --weights, OUT for the outputs and the report. The first word is a command of
    caffe-merge, or merge_bn for merge_bn.py.
    """

    name: str
    groups: str
    words: str


PASSES = [
    "drop-identity",
    "fold-swap",
    "fold-affine",
    "merge-branches",
    "merge-concat",
    "merge-serial",
    "fold-through",
    "fold-forward",
    "fold-image",
    "one-scale",
    "affine-as",
]

OPTION_SETS = (
    OptionSet("merge", "digits cases corpus large hostile", "merge PAIR OUT --validate none"),
    OptionSet("validated", "digits cases forms", "merge_bn PAIR OUT -v"),
    OptionSet("plan", "digits cases corpus forms", "plan PAIR -v"),
    OptionSet("inspect", "digits cases corpus forms large unfilled hostile", "inspect MODEL"),
    OptionSet("inspect-weights", "digits cases", "inspect PAIR -v"),
    OptionSet(
        "affine-conv",
        "digits cases corpus forms",
        "merge PAIR OUT -v --validate none --serial always --affine-as conv",
    ),
    OptionSet(
        "affine-scale",
        "digits corpus",
        "merge PAIR OUT --validate none --serial never --affine-as scale --keep-shared "
        "--keep-dtype --force",
    ),
    OptionSet("pixels", "digits forms", "merge PAIR OUT --mean 3 --scale 0.5 --input-layer"),
    OptionSet("mean", "digits cases", "merge PAIR OUT --validate none --mean 104,117,123"),
    OptionSet("swap", "digits forms", "plan PAIR --swap-rgb --mean 104,117,123 --input-layer"),
    OptionSet("skip", "digits cases", "plan PAIR -v --skip fold-affine --skip drop-identity"),
    OptionSet("deploy", "digits cases", "merge PAIR OUT --validate none --deploy"),
    OptionSet("train", "digits cases", "plan PAIR -v --phase TRAIN"),
    OptionSet("style", "digits cases", "plan PAIR -v --bn-style yjxiong-invstd"),
    OptionSet("style-segnet", "digits", "plan PAIR -v --bn-style segnet"),
    OptionSet("keep", "digits", "merge PAIR OUT -v --validate none --keep conv1 --keep res2_bn"),
    OptionSet("state", "digits", "merge PAIR OUT --level 2 --stage a --stage b --validate none"),
    OptionSet("shape", "digits", "merge PAIR OUT --input-shape data=2,1,8,8 --seed 3 -v"),
    OptionSet("defaults", "digits", "merge_bn PAIR"),
    OptionSet("quiet", "digits", "merge_bn PAIR OUT -q"),
    OptionSet("strict", "digits", "merge PAIR OUT --limit 1e-12 --input-scale 4"),
    *(OptionSet(f"only-{name}", "digits", f"plan PAIR -v --only {name}") for name in PASSES),
    OptionSet(
        "validate",
        "digits",
        "validate PAIR --output-model deploy.prototxt --output-weights digits.caffemodel -v",
    ),
)

# Of digits, with the files of ``extra`` beside it. The words are those of an OptionSet.
BAD_RUNS = {
    "no-command": "",
    "unknown-command": "fold",
    "help": "--help",
    "help-merge": "merge --help",
    "help-plan": "plan --help",
    "help-validate": "validate --help",
    "help-inspect": "inspect --help",
    "help-merge-bn": "merge_bn --help",
    "unknown-flag": "merge PAIR OUT --fast",
    "no-weights": "merge MODEL OUT",
    "model-missing": "merge --model no.prototxt --weights digits.caffemodel OUT",
    "model-empty": "merge --model empty --weights digits.caffemodel OUT",
    "model-binary": "merge --model digits.caffemodel --weights digits.caffemodel OUT",
    "model-random": "merge --model bytes --weights digits.caffemodel OUT",
    "model-folder": "merge --model folder --weights digits.caffemodel OUT",
    "model-cut": "merge --model cut.prototxt --weights digits.caffemodel OUT",
    "model-cut-inspect": "inspect --model cut.prototxt -v",
    "weights-missing": "merge --model deploy.prototxt --weights no.caffemodel OUT",
    "weights-empty": "merge --model deploy.prototxt --weights empty OUT",
    "weights-text": "merge --model deploy.prototxt --weights deploy.prototxt OUT",
    "weights-random": "merge --model deploy.prototxt --weights bytes OUT",
    "weights-folder": "merge --model deploy.prototxt --weights folder OUT",
    "weights-cut": "merge --model deploy.prototxt --weights cut.caffemodel OUT",
    "weights-cut-early": "merge --model deploy.prototxt --weights cut-early.caffemodel OUT -v",
    "weights-no-layers": "merge --model deploy.prototxt --weights layerless.caffemodel OUT -v",
    "output-exists": "merge PAIR --output-model there.prototxt --output-weights w.caffemodel",
    "output-exists-force": "merge PAIR --output-model there.prototxt --output-weights w --force",
    "output-is-model": "merge PAIR --output-model deploy.prototxt --output-weights w --force",
    "output-is-weights": "merge PAIR --output-model m --output-weights digits.caffemodel --force",
    "outputs-same": "merge PAIR --output-model m --output-weights m",
    "output-nowhere": "merge PAIR --output-model no/m --output-weights no/w",
    "output-folder": "merge PAIR --output-model folder --output-weights w --force",
    "report-is-output": "merge PAIR --output-model m --output-weights w --report w",
    "report-is-input": "plan PAIR --report deploy.prototxt",
    "serial-choice": "merge PAIR OUT --serial perhaps",
    "limit-negative": "merge PAIR OUT --limit -1",
    "seed-text": "merge PAIR OUT --seed first",
    "keep-unknown": "merge PAIR OUT --keep nobody",
    "only-unknown": "merge PAIR OUT --only nobody",
    "skip-unknown": "plan PAIR --skip nobody",
    "style-unknown": "plan PAIR --bn-style nobody",
    "shape-bad": "plan PAIR --input-shape data=1,x",
    "shape-unknown-blob": "plan PAIR --input-shape nobody=1,2",
    "mean-bad": "plan PAIR --mean much",
    "mean-count": "plan PAIR --mean 1,2,3,4,5",
    "mean-unknown-blob": "plan PAIR --mean nobody=1",
    "proto-missing": "plan PAIR --proto no.proto",
    "proto-bad": "plan PAIR --proto bytes",
    "input-missing": "merge PAIR OUT --input data=no.npy",
    "input-bad": "merge PAIR OUT --input data=bytes",
    "caffe-missing": "merge PAIR OUT --validate pycaffe --caffe-python no-python",
    "validate-missing": "validate PAIR",
}

# Folder of cases, prototxt and caffemodel before, the same after.
VALIDATIONS = (
    ("foreign-merge", "a a", "good good"),
    ("foreign-merge", "a a", "bad bad"),
    ("passes-on-nothing", "dead dead", "dead_merged dead_merged"),
    ("passes-on-nothing", "dead dead", "dead_merged dead_bad"),
    ("passes-on-nothing", "unknown unknown", "unknown_merged unknown_merged"),
    ("passes-on-nothing", "unknown unknown", "unknown_merged unknown_bad"),
    ("output-unjudged", "d d", "p d"),
)


def runs(shared: Path, weights: Path) -> Iterator[Run]:
    """Every run; the seeded weights of the corpus are those in the folder ``weights``."""
    for net in (*digits(), *forms(shared), *cases(shared), *corpus(shared, weights)):
        for row in OPTION_SETS:
            if net.group in row.groups.split():
                name = f"{net.group}/{net.name}/{row.name}"
                seconds = HOSTILE.get(net.name.split("/")[0], TIMEOUT)
                yield Run(name, net.files, command(row.words, net), seconds)
    yield from bad_runs()
    yield from validations(shared)
    yield from input_files(shared)


def command(words: str, net: Input) -> List[str]:
    """The words of a row for ``net``."""
    model = ["--model", net.model, *net.flags]
    meaning = {
        "MODEL": model,
        "PAIR": [*model, *(["--weights", net.weights] if net.weights is not None else [])],
        "OUT": [
            "--output-model",
            "out.prototxt",
            "--output-weights",
            "out.caffemodel",
            "--report",
            "report.json",
        ],
    }
    return [part for word in words.split() for part in meaning.get(word, [word])]


def digits() -> Iterator[Input]:
    """The example of the checkout."""
    folder = ROOT / "examples" / "digits"
    model, weights = "deploy.prototxt", "digits.caffemodel"
    yield Input("digits", "digits", {name: folder / name for name in (model, weights)}, *_names())


def _names() -> Tuple[str, str]:
    return "deploy.prototxt", "digits.caffemodel"


def forms(shared: Path) -> Iterator[Input]:
    """Pairs of one stem."""
    for model in sorted((shared / "forms").glob("*.prototxt")):
        yield _pair("forms", model.stem, model, model.with_suffix(".caffemodel"))


def cases(shared: Path) -> Iterator[Input]:
    """Every prototxt of every folder with the weights that it can be meant for."""
    for model in sorted((shared / "cases").glob("*/*.prototxt")):
        group = "hostile" if model.parent.name in HOSTILE else "cases"
        for weights in _weights_for(model):
            stem = "" if weights is None or weights.stem == model.stem else f"+{weights.stem}"
            yield _pair(group, f"{model.parent.name}/{model.stem}{stem}", model, weights)


def _weights_for(model: Path) -> List[Optional[Path]]:
    """The caffemodel of the same name; else those that no prototxt has the name of, else all."""
    same = model.with_suffix(".caffemodel")
    if same.exists():
        return [same]
    every: List[Optional[Path]] = [*sorted(model.parent.glob("*.caffemodel"))]
    free = [path for path in every if path and not path.with_suffix(".prototxt").exists()]
    return [*free] or every or [None]


def _pair(
    group: str, name: str, model: Path, weights: Optional[Path], flags: Iterable[str] = ()
) -> Input:
    """An input of two files; without ``weights``, with a caffemodel that has none for any layer."""
    second = "none.caffemodel" if weights is None else weights.name
    files: Files = {model.name: model, second: NO_WEIGHTS if weights is None else weights}
    return Input(group, name, files, model.name, second, tuple(flags))


def corpus(shared: Path, weights: Path) -> Iterator[Input]:
    """The published files with their own weights where they have some, else with seeded ones."""
    for model, facts in _published(shared):
        trained, seeded = model.with_suffix(".caffemodel"), weights / f"{model.stem}.caffemodel"
        flags = facts.get("flags", "").split()
        group = "corpus" if "layers" not in facts else "unfilled"
        if seeded.exists():
            group = "large" if seeded.stat().st_size > LARGE else "corpus"
        pair = _pair(group, model.stem, model, seeded if seeded.exists() else None, flags)
        yield pair._replace(files={**pair.files, model.name: edited(model, facts)})
        if trained.exists():
            yield _pair("corpus", f"{model.stem}-trained", model, trained, flags)


def _published(shared: Path) -> Iterator[Tuple[Path, Dict[str, Any]]]:
    """Each prototxt of the corpus, with what tests/corpus.json says of it."""
    facts = json.loads((ROOT / "tests" / "corpus.json").read_text(encoding="utf-8"))
    for model in sorted((shared / "corpus").glob("*.prototxt")):
        yield model, facts.get(model.stem, {})


def edited(model: Path, facts: Dict[str, Any]) -> bytes:
    """The text of ``model`` with the edits that make its net smaller."""
    text = model.read_bytes()
    for old, new in facts.get("edits", {}).items():
        text = text.replace(old.encode(), new.encode())
    return text


def fill(shared: Path, folder: Path) -> List[str]:
    """Write seeded weights for the corpus to ``folder``; the names of those that are too large."""
    folder.mkdir(parents=True, exist_ok=True)
    large = []
    for model, facts in _published(shared):
        path = folder / f"{model.stem}.caffemodel"
        if "layers" in facts and not path.exists() and not _filled(model, facts, path):
            large.append(model.stem)
    return large


def _filled(model: Path, facts: Dict[str, Any], path: Path) -> bool:
    """Write the seeded weights of one net, as tests/corpus does; False if they are too large."""
    sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]
    import caffe_merge
    from caffe_merge.validation.inputs import parse_shapes
    from tests.corpus.filling import Filler, caffemodel, walk

    text = path.with_suffix(".prototxt")
    text.write_bytes(edited(model, facts))
    flags = facts.get("flags", "").split()
    shapes = parse_shapes(flags[n + 1] for n, flag in enumerate(flags) if flag == "--input-shape")
    net = caffe_merge.load(str(text), None, input_shapes=shapes, deploy="--deploy" in flags)
    text.unlink()
    blob_shapes = {name: tuple(shape) for name, shape in facts.get("feed", {}).items()}
    for layer in net.layers:
        if layer.name in facts.get("tops", {}):
            blob_shapes.update(dict.fromkeys(layer.param.top, tuple(facts["tops"][layer.name])))
    pieces, size = [], 0
    filler = Filler(facts.get("style", "bvlc"), seed=0)
    for piece in caffemodel(filler.fill(walk(net.layers, blob_shapes))):
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST:
            return False
    path.write_bytes(b"".join(pieces))
    return True


def bad_runs() -> Iterator[Run]:
    """Bad inputs and wrong flags."""
    net = next(digits())
    model, weights = (Path(str(net.files[name])).read_bytes() for name in _names())
    files: Files = {
        **net.files,
        "empty": b"",
        "bytes": bytes(range(256)) * 3,
        "folder/file": b"",
        "cut.prototxt": model[: len(model) // 2 + 7],
        "cut.caffemodel": weights[: len(weights) // 2],
        "cut-early.caffemodel": weights[:40],
        "layerless.caffemodel": EMPTY_NET,
        "there.prototxt": b"a file of the user's\n",
    }
    for name, words in BAD_RUNS.items():
        yield Run(f"bad/{name}", files, command(words, net))


def validations(shared: Path) -> Iterator[Run]:
    """The command validate on VALIDATIONS."""
    for folder, before, after in VALIDATIONS:
        names = [f"{n}.{s}" for pair in (before, after) for n, s in zip(pair.split(), _SUFFIXES)]
        files: Files = {name: shared / "cases" / folder / name for name in names}
        if all(Path(str(path)).exists() for path in files.values()):
            flags = ("--model", "--weights", "--output-model", "--output-weights")
            words = [word for both in zip(flags, names) for word in both]
            name = f"validate/{folder}/{after.replace(' ', '+')}"
            yield Run(name, files, ["validate", *words, "-v"])


_SUFFIXES = ("prototxt", "caffemodel")


def input_files(shared: Path) -> Iterator[Run]:
    """The files of cases/input-npy as an input of digits."""
    net = next(digits())
    for path in sorted((shared / "cases" / "input-npy").glob("*.npy")):
        words = command(f"merge PAIR OUT --input data={path.name}", net)
        yield Run(f"bad/{path.parent.name}/{path.stem}", {**net.files, path.name: path}, words)
