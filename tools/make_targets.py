"""Makes docs/targets.md from the table of targets and what the real readers were measured to do.

Usage: python tools/make_targets.py            write the page
       python tools/make_targets.py --check    exit 1 where it is not what would be written
"""

import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from caffe_merge.passes.targets.table import EFFECTS, Row, Target, table  # noqa: E402

PAGE = ROOT / "docs" / "targets.md"
RESULTS = ROOT / "tests" / "passes" / "targets" / "results.json"

HEAD = """# Targets

A target is a program that reads Caffe pairs. Each takes some forms of a net, refuses others, and
computes some otherwise than Caffe without an error.

    caffe-merge check P W --target ncnn   # what ncnn would refuse or compute wrongly
    caffe-merge merge P W --target ncnn   # the merged pair in the form that ncnn takes
    caffe-merge check --target list       # the targets

`check` looks at the pair as it is, and its exit status is 1 where it finds anything. `merge` merges
as always, but makes no layer that the target would not take, and then writes what is left in the
forms of the tables below; every one is a rewrite that is proved and validated like others. What has
no form is reported, with what to do. A form is run alone with `--only`, left out with `--skip`.

What no row speaks of is not known to be wrong: that is no promise. Sources that say "run" were
run on 53 small nets, on the day or in the month given; the others are documents, source text and
reports of users, with the month in which they were read: check these before you rely on one.

This page is made from `caffe_merge/passes/targets/targets.json` by `tools/make_targets.py`. A new
target is rows of that file:
`types` are layer types (`any`, or `net`), `where` is a condition on facts about a layer
(`passes/targets/facts.py`) or fields of its text, `effect` one of these:
"""

MEASURED = """## Measured

`make test-targets` runs the real readers on a folder of small pairs, one form each, before and
after `merge --target`, and holds `check` against what they do. An output agrees with real Caffe
within 1e-4 of its largest value (1e-2 where the reader computes in half precision).
"""


NOT_RUN = """
`make test-targets` does not run these, most of which no package registry has (ncnn's wheel and
source package are without caffe2ncnn). What their rows say is from:
"""


def main() -> int:
    """Write or check the page."""
    text = "\n".join(page()) + "\n"
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/targets.md is not what tools/make_targets.py writes: run it")
    return 1


def page() -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    yield "| effect | meaning |"
    yield "|---|---|"
    yield from (f"| {effect} | {meaning} |" for effect, meaning in EFFECTS.items())
    yield ""
    yield "| form | what it does to a layer |"
    yield "|---|---|"
    yield from (f"| `{form}` | {what} |" for form, what in table().forms.items())
    yield ""
    for target in table().targets.values():
        yield from _target(target)
    yield from _measured(json.loads(RESULTS.read_text(encoding="utf-8")))


def _target(target: Target) -> Iterator[str]:
    yield f"## {target.name}: {target.title}\n"
    yield f"{target.about}.\n"
    if target.types:
        yield f"Types that it has: {', '.join(sorted(target.types))}. Any other:"
        yield f"{target.types_effect}, {target.types_why} ({_source(target.types_source)}).\n"
    yield "| layers | where | effect | why | what to do | source |"
    yield "|---|---|---|---|---|---|"
    yield from map(_row, target.rows)
    yield ""


def _row(row: Row) -> str:
    what = f"`{row.form}`" if row.form else row.advice
    where = f"`{row.condition}`" if row.condition else ""
    cells = (", ".join(row.types), where, row.effect, row.why, what, _source(row.source))
    return "| " + " | ".join(cells) + " |"


def _source(source: Any) -> str:
    return f"{source.text}, {source.date}"


def _measured(results: Dict[str, Any]) -> Iterator[str]:
    yield MEASURED
    yield (
        "| reader | version | pairs | agree before | after `merge --target` "
        "| differ, as `check` says |"
    )
    yield "|---|---|---|---|---|---|"
    for reader, result in results.items():
        rows = result["forms"]
        agree = [
            sum(row[stage]["outcome"] == "agrees" for row in rows.values())
            for stage in ("before", "after")
        ]
        left: List[str] = [
            f"{form} ({row['after']['outcome']})"
            for form, row in rows.items()
            if row["after"]["outcome"] != "agrees"
        ]
        counts = f"{len(rows)} | {agree[0]} | {agree[1]}"
        yield f"| {reader} | {result['version']} | {counts} | {', '.join(left) or 'none'} |"
    yield NOT_RUN
    for name, target in table().targets.items():
        if name not in results:
            sources = dict.fromkeys(_source(row.source) for row in target.rows)
            yield f"- {name}: {'; '.join(sources)}"


if __name__ == "__main__":
    sys.exit(main())
