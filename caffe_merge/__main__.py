"""The commands as processes of their own; ``python -m caffe_merge`` is caffe-merge."""

import sys
from typing import NoReturn

from caffe_merge.command import cli


def main() -> NoReturn:
    """``caffe-merge``."""
    sys.exit(cli.main(ours=True))


def merge_bn() -> NoReturn:
    """``merge_bn.py``."""
    sys.exit(cli.merge_bn(ours=True))


if __name__ == "__main__":
    main()
