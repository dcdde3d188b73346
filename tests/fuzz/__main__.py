"""``python -m tests.fuzz SECONDS [FOLDER]``: each target an equal part of the time, under atheris.

FOLDER (default: build/fuzz) keeps the corpus between runs, and the inputs that failed.
"""

import subprocess
import sys
from pathlib import Path
from typing import List

from tests.fuzz.corpus import CORPORA
from tests.fuzz.targets import TARGETS

MISSING = """atheris is not installed for this Python, so nothing was fuzzed: pip install atheris.
It comes for CPython 3.8 to 3.13 on Linux (older versions of it for older Pythons); elsewhere
the same targets run in tests/fuzz/test_targets.py, without coverage to guide them."""
LIMITS = ("-timeout=20", "-rss_limit_mb=3000", "-max_len=8192", "-print_final_stats=1")


def main(arguments: List[str]) -> int:
    """Run all targets, or say why not; 1 where one failed or nothing could be run."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        print(MISSING, file=sys.stderr)
        return 1
    seconds = int(arguments[0]) if arguments else 600
    folder = Path(arguments[1] if len(arguments) > 1 else "build/fuzz")
    failed = []
    for name in TARGETS:
        corpus = folder / name
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(CORPORA[name]()):
            (corpus / f"test-{number}").write_bytes(data)
        print(f"fuzzing {name} for {seconds // len(TARGETS)} s, corpus in {corpus}", flush=True)
        limits = [*LIMITS, f"-max_total_time={max(seconds // len(TARGETS), 1)}"]
        limits.append(f"-artifact_prefix={folder}/{name}-")
        command = [sys.executable, "-m", "tests.fuzz.atheris_target", name, *limits, str(corpus)]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}; the inputs are in {folder}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
