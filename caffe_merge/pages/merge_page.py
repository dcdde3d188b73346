"""The page of one merge: from its report, as JSON, and the net before and after."""

import os
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from caffe_merge.errors import spelled_in
from caffe_merge.pages import advice, charts, layers, ranges, rendering, targets
from caffe_merge.pages.drawing import draw, sized
from caffe_merge.pages.facts import Facts, Makers, gather
from caffe_merge.pages.snapshot import Nets
from caffe_merge.passes import PASSES
from caffe_merge.wording import counted

Report = Mapping[str, Any]
_SIGNS = {"passed": "\N{CHECK MARK}", "failed": "\N{MULTIPLICATION X}", "inconclusive": "?"}
_MEASURES = (
    ("layers", "layers", ""),
    ("multiply-adds", "multiply_adds", ""),
    ("parameters", "parameters", ""),
    ("activations", "activation_bytes", "bytes"),
)


def write(path: str, report: Report, nets: Nets, name_of: Callable[[str], str] = str) -> None:
    """Write the page of a merge, options called by ``name_of``, in ``report`` too.

    Raises UsageError without Jinja2, FileError as writing does.
    """
    report = spelled_in(report, name_of)
    title = report["net"] or os.path.basename(report["files"]["model"])
    rendering.write(path, "merge.html", title, content(report, nets), name_of)


def content(report: Report, nets: Nets) -> Dict[str, Any]:
    """All that the template prints, by the names that it has there."""
    before, after = nets
    facts = gather(before, after, report, _about())
    makers = Makers(before)
    validation = report.get("validation")
    titles = (f"before: {counted(len(before), 'layer')}", f"after: {counted(len(after), 'layer')}")
    drawn = draw(dict(zip(titles, nets)), {fact.number: fact for fact in facts})
    numbers = _numbers(facts)
    return {
        "files": [report["files"]["model"], report["files"]["weights"]],
        "verdict": verdict(report),
        "inexact": report["approximation"] is not None,
        "bars": list(_bars(report)),
        "tiles": list(_tiles(report)),
        "drawn": drawn,
        "errors": charts.errors(validation, makers),
        "rewrites": _rewrites(report, numbers),
        "refusals": _refusals(report, numbers),
        "for_target": report["target"] and targets.section(report["target"], numbers),
        "ranges": ranges.section(report["ranges"], {f.node.name: f.number for f in facts}),
        "notes": layers.notes(report["notes"]),
        "comparison_details": list(_validation_details(report, validation)),
        **layers.page_data(facts),
    }


class Verdict(NamedTuple):
    """What a merge came to: the status is that of the validation, ``none`` without one."""

    status: str
    sign: str
    title: str
    lines: List[str]


def verdict(report: Report) -> Verdict:
    """The verdict of a merge, in words."""
    validation, files = report.get("validation"), report["files"]
    inexact = _inexact(report["approximation"])
    written = "output_model" in files
    pair = [f"Written: {files['output_model']}, {files['output_weights']}."] if written else []
    if validation is None:
        if not report["changes"]:
            return Verdict("none", "=", "Nothing to do: no layer was changed", pair)
        title = "Not validated" if written else "A plan: nothing was written"
        return Verdict("none", "\N{EN DASH}", title, inexact + pair)
    status, engine = validation["status"], validation["engine"]
    lines = [_compared(validation)]
    if validation["worst"]:
        name, error = validation["worst"]
        lines.append(f"Worst error {_error(error)} in {name!r}, limit {validation['limit']:g}.")
    if validation["ok"]:
        title = "Passed: the merged pair computes what the old one does"
        if inexact:
            title = "Passed but for what is not exact, as asked"
        return Verdict(status, _SIGNS[status], title, inexact + lines + pair)
    lines.insert(0, f"{validation['reason']}.")
    lines.append("The merged pair was not put in place.")
    if status == "failed":
        title = "Failed: the merged pair does not compute what the old one does"
    else:
        title = f"Inconclusive: {engine} could not show that both compute the same"
    return Verdict(status, _SIGNS[status], title, lines)


def _inexact(approximation: Optional[Mapping[str, Any]]) -> List[str]:
    """What is not exact, and what that does to the outputs."""
    return [] if approximation is None else [f"{approximation['summary']}."]


def _compared(validation: Mapping[str, Any]) -> str:
    seen = validation["seen"]
    unseen = sum(not entry["blob"] for entry in seen)
    rewrites = f", {len(seen) - unseen} of {counted(len(seen), 'rewrite')} seen" if seen else ""
    return (
        f"{validation['engine']}: {counted(len(validation['blobs']), 'blob')} compared{rewrites}."
    )


def _error(error: Optional[float]) -> str:
    return "not a number" if error is None else f"{error:.2g}"


def _bars(report: Report) -> Iterator[charts.Bar]:
    before, after = report["before"], report["after"]
    for title, name, unit in _MEASURES:
        if before[name] is None or after[name] is None:
            continue
        missing = after["uncounted"] if name == "multiply_adds" else 0
        note = f"at least: {counted(missing, 'layer')} not counted" if missing else ""
        yield charts.bar(title, before[name], after[name], unit, note)
    sizes = report["files"]
    if "output_weights_bytes" in sizes:
        old, new = (
            sizes[f"{when}model_bytes"] + sizes[f"{when}weights_bytes"] for when in ("", "output_")
        )
        yield charts.bar("files", old, new, "bytes")
    validation = report.get("validation")
    if validation and validation["worst"]:
        name, error = validation["worst"]
        yield charts.error_bar(name, error, validation["limit"])


def _tiles(report: Report) -> Iterator[Tuple[str, str]]:
    validation = report.get("validation")
    if validation and None not in validation["seconds"]:
        old, new = validation["seconds"]
        yield f"forward pass by {validation['engine']}:", f"{old:.3g} s, then {new:.3g} s"
    if validation and validation["images"]:
        for output in validation["images"]["outputs"]:
            yield from _on_images(output, validation["images"]["count"])
    if report["unshared"]:
        total = sum(blob["bytes"] for blob in report["unshared"])
        yield "unshared weights:", f"{charts.as_bytes(total)} more"
    yield "time of the merge:", f"{sum(report['seconds'].values()):.2f} s"


def _on_images(output: Mapping[str, Any], count: int) -> Iterator[Tuple[str, str]]:
    """What the user's own images showed of one output."""
    where = f"output {output['name']!r} on {counted(count, 'image')}"
    if output["max_error"] is not None:
        yield f"{where}: largest error", _error(output["max_error"])
    classes = output["classes"]
    if classes is None:
        return
    yield f"{where}: first class the same for", f"{count - classes['top1_differ']}"
    if classes["accuracy"] is not None:
        before, after = classes["accuracy"]
        yield "accuracy before and after:", f"{before:.2%}, {after:.2%}"


Numbers = Mapping[str, int]  # the number of the (first) layer of each name


def _numbers(facts: Sequence[Facts]) -> Dict[str, int]:
    return {fact.node.name: fact.number for fact in reversed(facts)}


def _links(names: Sequence[str], numbers: Numbers) -> List[Tuple[Optional[int], str]]:
    return [(numbers.get(name), name) for name in dict.fromkeys(names)]


def _about() -> Dict[str, str]:
    """What each pass does, in a sentence, by its name."""
    return {a_pass.name: a_pass.summary for a_pass in PASSES}


def _rewrites(report: Report, numbers: Numbers) -> List[Dict[str, Any]]:
    """The rewrites by pass, and in each by the types of the layers that went and changed."""
    about = _about()
    passes: Dict[str, List[Mapping[str, Any]]] = {}
    for change in report["changes"]:
        passes.setdefault(change["rewrite"], []).append(change)
    out = []
    for name, changes in passes.items():
        kinds: Dict[str, List[str]] = {}
        for change in changes:
            layers = change["changed"] or change["removed"] or change["added"]
            kinds.setdefault(_types(change), []).extend(layers)
        linked = [(text, _links(layers, numbers)) for text, layers in kinds.items()]
        out.append(
            {"name": name, "about": about.get(name, ""), "count": len(changes), "kinds": linked}
        )
    return sorted(out, key=lambda group: -int(group["count"]))


def _types(change: Mapping[str, Any]) -> str:
    """``Convolution takes in BatchNorm, Scale``."""
    removed, changed = (
        ", ".join(dict.fromkeys(change[f"{n}_types"])) for n in ("removed", "changed")
    )
    if removed and changed:
        return f"{changed} takes in {removed}"
    return f"{removed} goes" if removed else f"{changed} changes" if changed else "new layers"


def _refusals(report: Report, numbers: Numbers) -> List[Dict[str, Any]]:
    return [
        {
            "rewrite": group.rewrite,
            **group.kind._asdict(),
            "count": group.total,
            "reasons": [(reason, _links(layers, numbers)) for reason, layers in group.reasons],
        }
        for group in advice.grouped(report["refusals"])
    ]


def _validation_details(report: Report, validation: Optional[Mapping[str, Any]]) -> Iterator[str]:
    """What else a reader may ask about the comparison."""
    if validation is None:
        return
    for used in validation["inputs"]:
        values = "your own array" if used["seed"] is None else f"noise, seed {used['seed']}"
        note = f", {used['note']}" if used["note"] else ""
        yield f"input {used['name']!r}: {sized(used['shape'])}, {values}{note}"
    for name, kind in validation["black_boxes"]:
        yield f"{kind} {name!r} was not run: both nets got the same values in its place"
    for name, reason in validation["unjudged"]:
        yield f"blob {name!r} was not judged: {reason}"
    for name in validation["renamed"]:
        yield f"blob {name!r} holds something else now"
    unseen = [entry["layer"] for entry in validation["seen"] if not entry["blob"]]
    for name in unseen:
        yield f"no blob that was compared would have moved with wrong weights in {name!r}"
    yield ", ".join(f"{step}: {seconds:.2f} s" for step, seconds in report["seconds"].items())
