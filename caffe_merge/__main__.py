"""The commands as processes of their own; ``python -m caffe_merge`` is caffe-merge."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """``caffe-merge``."""
    _command("caffe-merge", "main")


def merge_bn() -> NoReturn:
    """``merge_bn.py``."""
    _command("merge_bn.py", "merge_bn")


def _command(program: str, function: str) -> NoReturn:
    try:
        from caffe_merge.command import cli  # Ctrl-C may come while it is imported

        status: int = getattr(cli, function)(ours=True)
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: error: interrupted\n")
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
