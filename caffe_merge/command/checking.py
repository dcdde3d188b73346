"""What the command check tells: what a target would not take of a net."""

from typing import Any, Dict, Iterator, List, NamedTuple

from caffe_merge.command.lists import limited
from caffe_merge.net.loading import Net
from caffe_merge.passes.targets.check import SCHEMA, Problem, check
from caffe_merge.passes.targets.table import Target, find
from caffe_merge.wording import counted


class Checked(NamedTuple):
    """A net held against a target: what the target would not take of it, in net order."""

    target: Target
    layers: int
    problems: List[Problem]

    @classmethod
    def of(cls, net: Net, name: str) -> "Checked":
        """The check of ``net`` for the target ``name``. Raises UsageError where there is none."""
        target = find(name)
        graph = net.graph({})
        return cls(target, len(graph.layers), check(net, graph, target))

    def lines(self, verbose: bool) -> Iterator[str]:
        """What is found, a line each; with ``verbose`` where each is known from."""
        title = f"{self.target.name} ({self.target.title})"
        if not self.problems:
            yield f"{title}: takes all {counted(self.layers, 'layer')}, as far as is known"
            return
        named = {(problem.layer, problem.type) for problem in self.problems}
        yield f"{title}: {len(named)} of {counted(self.layers, 'layer')} not as it takes them"
        yield from limited([self._line(p, verbose) for p in self.problems], verbose)
        left = [problem for problem in self.problems if not problem.form]
        if not left:
            yield f"merge --target {self.target.name} makes a pair of it that has none of this"
        elif len(left) < len(self.problems):
            changed = len(self.problems) - len(left)
            yield f"merge --target {self.target.name} does away with {changed} of these"

    def _line(self, problem: Problem, verbose: bool) -> str:
        what = f"{problem.type} {problem.layer!r}" if problem.layer else "the net"
        by = f"with merge --target {self.target.name} " if problem.form else ""
        source = f" [{problem.source.text}, {problem.source.date}]" if verbose else ""
        return f"  {problem.effect:8} {what}: {problem.why}; {by}{problem.advice}{source}"

    def section(self) -> Dict[str, Any]:
        """It as a page of the net has it."""
        from caffe_merge.pages import targets

        problems = [problem.to_json() for problem in self.problems]
        return targets.of_check(self.target.name, self.target.title, problems)

    def to_json(self) -> Dict[str, Any]:
        """It as plain data; docs/report.md describes every entry."""
        return {
            "schema": SCHEMA,
            "target": self.target.name,
            "layers": self.layers,
            "problems": [problem.to_json() for problem in self.problems],
        }
