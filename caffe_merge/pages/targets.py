"""The section of a page on a target: what it would not take of a net, and what became of that."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from caffe_merge.wording import counted

Problems = Sequence[Mapping[str, Any]]  # of passes/targets/check.py, as JSON
Numbers = Mapping[str, int]  # the number of the (first) layer of each name
_DONE, _LEFT, _FORM = "done", "left", "form"


def section(target: Mapping[str, Any], numbers: Numbers) -> Dict[str, Any]:
    """What the template prints; ``target`` is that entry of a report.

    Of a net that was not merged ``after`` is None.
    """
    rows = _rows(target, numbers)
    return {
        "name": target["name"],
        "title": target["title"],
        "line": _line(rows, target["after"] is None),
        "groups": sorted(rows, key=lambda row: (row["fate"] == _DONE, -row["count"])),
    }


def line(target: Mapping[str, Any]) -> str:
    """That entry of a report in a line: for whom, and what there is."""
    sentence = _line(_rows(target, {}), target["after"] is None).rstrip(".")
    return f"for {target['title']}: {sentence[0].lower()}{sentence[1:]}"


def _rows(target: Mapping[str, Any], numbers: Numbers) -> List[Dict[str, Any]]:
    """What it would not take, or would not have taken: what is alike in one row."""
    before, after = target["before"], target["after"]
    left = {_said(problem) for problem in before if after is None}
    left.update(_said(problem) for problem in after or ())
    by_problem = {_whole(problem): problem for problem in (*(after or ()), *before)}
    groups: Dict[Tuple[str, ...], List[Mapping[str, Any]]] = {}
    for problem in by_problem.values():
        stays = _said(problem) in left
        fate = (_FORM if problem["form"] and after is None else _LEFT) if stays else _DONE
        key = fate, problem["effect"], problem["why"], problem["form"], problem["advice"]
        groups.setdefault(key, []).append(problem)
    return [_row(key, problems, numbers) for key, problems in groups.items()]


def _said(problem: Mapping[str, Any]) -> Tuple[str, str]:
    return problem["layer"], problem["why"]


def _whole(problem: Mapping[str, Any]) -> Tuple[str, ...]:
    return tuple(str(problem[name]) for name in ("layer", "effect", "why", "form", "advice"))


def _row(key: Tuple[str, ...], problems: Problems, numbers: Numbers) -> Dict[str, Any]:
    fate, effect, why, form, advice = key
    names = dict.fromkeys(problem["layer"] for problem in problems if problem["layer"])
    source = problems[0]["source"]
    return {
        "fate": fate,
        "effect": effect,
        "why": why,
        "form": form,
        "advice": advice,
        "count": len(problems),
        "types": ", ".join(dict.fromkeys(p["type"] for p in problems if p["type"])) or "the net",
        "layers": [(numbers.get(name), name) for name in names],
        "source": f"{source['text']}, {source['date']}",
    }


def _line(rows: Sequence[Mapping[str, Any]], is_check: bool) -> str:
    """In a sentence what there is."""
    counts = {
        fate: sum(row["count"] for row in rows if row["fate"] == fate)
        for fate in (_DONE, _LEFT, _FORM)
    }
    if is_check:
        total = counts[_LEFT] + counts[_FORM]
        if not total:
            return "It takes all layers, as far as is known."
        some = f", {counts[_FORM]} of which a merge for it writes otherwise"
        return f"{counted(total, 'thing')} that it does not take{some if counts[_FORM] else ''}."
    if not rows:
        return "It took all layers before, and does now, as far as is known."
    left = f"{counted(counts[_LEFT], 'thing')} left that it does not take" if counts[_LEFT] else ""
    done = f"{counted(counts[_DONE], 'thing')} that it did not take, done away with"
    return ", ".join(filter(None, (left, done if counts[_DONE] else ""))) + "."


def of_check(name: str, title: str, problems: Problems) -> Dict[str, Any]:
    """The entry for a net that is only checked."""
    entry: Dict[str, Optional[Any]] = {"name": name, "title": title}
    return {**entry, "before": problems, "after": None}
