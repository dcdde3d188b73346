"""Code of ours in a child process, under this interpreter and with its modules."""

import sys
from typing import List


def command(code: str) -> List[str]:
    """The command line that runs ``code``.

    Not -m: it must find the modules where this process found them, numpy included.
    """
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]
