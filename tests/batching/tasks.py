"""What the workers of the tests do; a worker process imports it by name."""

import os
import signal
import sys
import time
from typing import List

SEEN: List[str] = []


def nothing() -> None:
    """Prepares nothing."""


def double(number: int) -> int:
    return 2 * number


def seen(word: str) -> List[str]:
    """All words that this process was told, and where."""
    SEEN.append(word)
    return list(SEEN)


def process(_: str) -> int:
    """The process that this is done in."""
    return os.getpid()


def chatter() -> str:
    print("this is no message of the protocol" * 1000)
    os.write(1, b"nor this")
    return sys.stdin.read()


def die(how: str) -> None:
    if how == "hang":
        time.sleep(60)
    if how == "exit":
        sys.stderr.write("the last\nwords\n")
        sys.stderr.flush()
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))


def wait(path: str, seconds: float) -> str:
    """Leave a mark that it began, and another if it is interrupted."""
    open(path, "w").close()
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        open(path + ".interrupted", "w").close()
        raise
    return path


def spawn(path: str) -> None:
    """Start a process that outlives its parent, unless its group is killed."""
    import subprocess

    code = f"import time; time.sleep(2); open({path!r}, 'w').close()"
    subprocess.Popen([sys.executable, "-c", code])
    time.sleep(60)


def die_of_the_second_text() -> None:
    """Prepare a worker that crashes where it reads n1.prototxt."""
    from caffe_merge.batching.content import Contents

    text = Contents.text

    def dying(self: Contents, path: str) -> object:
        if path.endswith("n1.prototxt"):
            die("SIGSEGV")
        return text(self, path)

    Contents.text = dying  # type: ignore[method-assign,assignment]
