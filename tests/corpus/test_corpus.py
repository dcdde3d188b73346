"""Every published file of the corpus does what tests/corpus.json says of it, and what is merged
computes what it did: in real Caffe where that can build the net, else in float64.

The manifest's keys, of each file:

    source    repository and path it was published under
    sha256    of the file: the version that all this is said of
    format    V0, V1 or V2, as Caffe counts them
    reads     "deploy" or "training" as it is; else the error, without the file's name
    flags     of the command that merges it
    without --deploy    why a training file cannot be merged as it is; it can if this is not there
    style     of its normalising layers, as docs/forks.md calls it, if not BVLC's
    trained   its own weights are in the corpus: it is merged with these as well as seeded ones
    edits     numbers changed in the text before anything else, for a smaller net
    tops      shapes of what layers make that nobody here knows, by layer
    feed      shapes of inputs, if not the text's
    layers    their number before and after
    fates     how many of each type are gone, changed, or kept and why
    caffe     why real Caffe does not build the net, "" if it does
    merged    "builds" if it builds the merged net all the same
    blobs     how many were compared; ``blobs if trained`` with its own weights, if not as many
    unjudged  those that were not; where Caffe does not run the net, noise stands in for ``tops``
"""

import csv
import hashlib
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

import pytest

import caffe_merge
from caffe_merge.command.cli import merge_bn
from caffe_merge.errors import CaffeMergeError, UsageError, ValidationError
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.syntax import Document, encode
from caffe_merge.merging.planning import Conversion, plan
from caffe_merge.net import saving
from caffe_merge.net.data_layers import data_layers, is_loss
from caffe_merge.net.loading import Net
from caffe_merge.options import Options
from caffe_merge.validation.inputs import parse_shapes
from tests.corpus import judging
from tests.corpus.filling import Filler, caffemodel, walk
from tests.real_caffe import RealCaffe

MANIFEST: Dict[str, Dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parent.parent / "corpus.json").read_text(encoding="utf-8")
)
CORPUS = os.environ.get("CAFFE_MERGE_CORPUS")
RUNS = [
    (name, trained)
    for name, facts in MANIFEST.items()
    for trained in (False, True)
    if "layers" in facts and (facts.get("trained") or not trained)
]
TRAINING = [name for name, facts in MANIFEST.items() if facts["reads"] == "training"]
LIMIT = 1e-5  # of a blob's largest value
PIXELS = 60.0  # the deviation of what trained nets were trained on

pytestmark = pytest.mark.skipif(not CORPUS, reason="CAFFE_MERGE_CORPUS names no folder")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that is gone after the test: the weights of all nets are gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def path(name: str, suffix: str = "prototxt") -> Path:
    """A file of the corpus."""
    return Path(str(CORPUS), f"{name}.{suffix}")


def load(file: Path, flags: str = "") -> Net:
    """A text without weights, as the command with ``flags`` reads it."""
    deploy = "--deploy" in flags.split()
    return caffe_merge.load(str(file), None, input_shapes=input_shapes(flags), deploy=deploy)


def input_shapes(flags: str) -> Dict[str, Tuple[int, ...]]:
    """What ``flags`` say of inputs."""
    words = flags.split()
    return parse_shapes(words[n + 1] for n, word in enumerate(words) if word == "--input-shape")


def test_every_file_has_an_entry_and_every_entry_a_file() -> None:
    assert sorted(file.stem for file in Path(str(CORPUS)).glob("*.prototxt")) == sorted(MANIFEST)
    with Path(str(CORPUS), "index.tsv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    sources = {row["short-name"]: f"{row['repo']}: {row['path']}" for row in rows}
    assert sources == {name: facts["source"] for name, facts in MANIFEST.items()}
    trained = [name for name, facts in MANIFEST.items() if facts.get("trained")]
    assert sorted(file.stem for file in Path(str(CORPUS)).glob("*.caffemodel")) == sorted(trained)


@pytest.mark.parametrize("name", MANIFEST)
def test_it_reads_and_writes_back(name: str) -> None:
    facts = MANIFEST[name]
    data = path(name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    assert reading(path(name)) == (facts["format"], facts["reads"])
    if "layers" not in facts:
        return
    assert encode(Edits(Document(data)).text()) == data
    if facts["reads"] in ("deploy", "training"):
        written = saving.text(load(path(name)))
        assert (written == data) == (facts["format"] == "V2")


def reading(file: Path) -> Tuple[str, str]:
    """The format of a text, and how it reads: the manifest's ``format`` and ``reads``."""
    try:
        net = load(file)
    except CaffeMergeError as error:
        return "V2", str(error).replace(str(file), "")
    kinds = {note.kind: note.text for note in net.notes}
    old = kinds.get("upgraded", "")
    form = next((form for form in ("V0", "V1") if form in old), "V2")
    return form, "training" if "training-net" in kinds else "deploy"


@pytest.mark.parametrize("name", TRAINING)
def test_deploy_gives_what_caffe_loads_or_says_what_to_add(
    name: str, real_caffe: RealCaffe
) -> None:
    facts = MANIFEST[name]
    try:
        missing = ""
        load(path(name), "--deploy")
    except UsageError as error:
        missing = str(error)
    words = facts["flags"].split()
    blob = words[words.index("--input-shape") + 1].partition("=")[0]
    assert not missing or f": give input_shape {blob}=1," in missing
    net = load(path(name), facts["flags"])
    assert not data_layers([layer.param for layer in net.layers])
    assert not [layer for layer in net.layers if is_loss(layer.param)]
    error = real_caffe.error(encode(net.document.text).decode())
    assert (error == "") == (facts["caffe"] == ""), error


@pytest.mark.parametrize(("name", "trained"), RUNS)
def test_it_merges_and_computes_what_it_did(
    name: str, trained: bool, scratch: Path, real_caffe: RealCaffe
) -> None:
    facts = MANIFEST[name]
    flags = facts.get("flags", "")
    model = path(name)
    if "edits" in facts:
        model = scratch / "edited.prototxt"
        model.write_text(edited(path(name).read_text(), facts["edits"]))
    net = load(model, flags)
    weights = path(name, "caffemodel") if trained else filled(net, facts, scratch)
    if facts["reads"] == "training":
        expected = facts.get("without --deploy", facts["fates"])
        assert as_it_is(model, weights, flags) == expected
    before = scratch / "before.prototxt", weights
    before[0].write_bytes(saving.text(net))
    after = scratch / "after.prototxt", scratch / "after.caffemodel"
    report = merge(model, weights, after, flags)
    assert fates(report) == facts["fates"]
    assert [report["before"]["layers"], report["after"]["layers"]] == facts["layers"]

    fed = judging.inputs(net, facts.get("feed", {}), PIXELS if trained else 1.0)
    old, error = in_caffe(real_caffe, before, fed)
    assert error == facts["caffe"]
    new, error = in_caffe(real_caffe, after, fed)
    assert (error == "") == (facts["caffe"] == "" or facts.get("merged") == "builds"), error
    stand_ins = facts.get("tops", {})
    old = judging.reference(before, fed, stand_ins) if old is None else old
    new = judging.reference(after, fed, stand_ins) if new is None else new
    judged = judging.compared(old, new, judging.names(net, load(after[0])))
    blobs = facts.get("blobs if trained" if trained else "blobs", facts["blobs"])
    assert [len(judged.errors), judged.unjudged] == [blobs, facts["unjudged"]]
    worst = max(judged.errors, key=judged.errors.__getitem__)
    assert judged.errors[worst] <= LIMIT, worst
    odd = {blob: size for blob, size in judged.sizes.items() if not 1e-3 < size < 1e3}
    assert not odd, "the values grow or vanish on their way through the net"


def in_caffe(
    caffe: RealCaffe, pair: judging.Pair, fed: judging.Arrays
) -> Tuple[Optional[judging.Arrays], str]:
    """Every blob of a pair in real Caffe; or None, and what of it Caffe does not know."""
    try:
        return caffe.forward_pair(*pair, fed), ""
    except ValidationError as error:
        for about in ("has no field named ", "has no layer type "):
            if about in str(error):
                what = about + str(error).split(about)[1].split()[0]
                return None, what.rstrip(").:").replace('"', "'")
        return None, str(error)


def as_it_is(model: Path, weights: Path, flags: str) -> object:
    """The fates in a training file that is merged without --deploy, or why it is not."""
    try:
        conversion = Conversion(
            str(model), str(weights), "", "", Options(input_shapes=input_shapes(flags))
        )
        return fates(plan(conversion)[1].to_json())
    except CaffeMergeError as error:
        return str(error).replace(str(model), "")


def merge(model: Path, weights: Path, out: judging.Pair, flags: str) -> Dict[str, Any]:
    """Run the command; its report."""
    report = out[0].with_suffix(".json")
    words = ["--model", model, "--weights", weights, "--output-model", out[0], "--output-weights"]
    words += [out[1], "--validate", "none", "--report", report, "--quiet", "--force"]
    assert merge_bn([*map(str, words), *flags.split()]) == 0
    data: Dict[str, Any] = json.loads(report.read_text())
    return data


def edited(text: str, edits: Dict[str, str]) -> str:
    """``text`` with each of ``edits`` made."""
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    return text


def filled(net: Net, facts: Dict[str, Any], folder: Path) -> Path:
    """Write seeded weights for ``net``."""
    shapes = {name: tuple(shape) for name, shape in facts.get("feed", {}).items()}
    for layer in net.layers:
        if layer.name in facts.get("tops", {}):
            shapes.update(dict.fromkeys(layer.param.top, tuple(facts["tops"][layer.name])))
    filler = Filler(facts.get("style", "bvlc"), seed=0)
    weights = folder / "before.caffemodel"
    with weights.open("wb") as handle:
        handle.writelines(caffemodel(filler.fill(walk(net.layers, shapes))))
    return weights


def fates(report: Dict[str, Any]) -> Dict[str, Dict[str, int]]:
    """How many layers of each type met which fate, and why where they were kept."""
    met: Dict[str, Counter] = {}
    for item in report["fates"]:
        fate = f"kept: {item['detail']}" if item["fate"] == "kept" else item["fate"]
        met.setdefault(item["type"], Counter())[fate] += 1
    return {kind: dict(counted) for kind, counted in met.items()}
