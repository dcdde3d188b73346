"""What a comparison by any engine begins with: its worker's command, and two opened pairs."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from caffe_merge.validation import registry
from caffe_merge.validation.judging import Judging
from caffe_merge.validation.sessions import Paths, Session, Sessions


def prepared(engine: str, how: Dict[str, Any]) -> Tuple[registry.Engine, List[str], Judging]:
    """The engine's row, its worker's command, and the Judging of ``how`` with its time limit."""
    row, judging = registry.engine(engine), Judging.of(how)
    judging = judging._replace(time_limit=judging.time_limit or row.time_limit)
    return row, row.command(judging.caffe_python), judging


@contextlib.contextmanager
def both(pairs: Sequence[Paths], command: List[str], judging: Judging) -> Iterator[Sessions]:
    """Two opened sessions, of the old pair and of the new one; they are loaded side by side."""
    with contextlib.ExitStack() as stack:
        old, new = (
            stack.enter_context(
                Session(pair, command, judging.time_limit, judging.state, judging.bn_style)
            )
            for pair in pairs
        )
        old.opened()
        new.opened()
        yield old, new
