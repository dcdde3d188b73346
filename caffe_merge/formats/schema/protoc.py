"""A user's .proto file compiled by protoc, into a descriptor pool of its own.

protoc is grpcio-tools' if that is installed, else the one on PATH, and always another process. The
descriptors never enter protobuf's default pool, as ours do not (messages.py).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from typing import Any, List, NoReturn

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError

from caffe_merge.errors import FileError, OptionName, TextError, UsageError
from caffe_merge.files.inputs import opened
from caffe_merge.files.temporary import temporary_folder

TIME_LIMIT = 60.0  # seconds; the largest caffe.proto known takes less than one
_MESSAGES_READ = 1 << 16
_LONGEST_MESSAGE = 300
_OUTPUT, _MESSAGES = "descriptors", "messages"
# What protoc, grpcio-tools' and that of 2014 too, writes of an error: path:line:column: message.
_LOCATED = re.compile(r"^(.+?):(\d+):(\d+): (?!warning:)(.+)$", re.MULTILINE)


def command() -> List[str]:
    """The command line of protoc. Raises UsageError where there is none."""
    if importlib.util.find_spec("grpc_tools") is not None:
        return [sys.executable, "-m", "grpc_tools.protoc"]
    protoc = shutil.which("protoc")
    if protoc is None:
        how = " file needs protoc: pip install grpcio-tools, or put protoc on PATH"
        raise UsageError("a ", OptionName("proto"), how)
    return [os.path.abspath(protoc)]


def compiled(path: str) -> List[Any]:
    """The FileDescriptors of the .proto file at ``path``, which comes last, and of its imports.

    Raises TextError where protoc says what is wrong at which line, FileError for what else it says.
    """
    with opened(path):  # what cannot be read is reported here, in our words
        pass
    files = _descriptors(path, command())
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in files:
            pool.AddSerializedFile(file.SerializeToString())
        return [pool.FindFileByName(file.name) for file in files]
    except (TypeError, KeyError, ValueError) as error:  # TypeError: protobuf's for a bad file
        _fail(path, str(error))


def _descriptors(path: str, protoc: List[str]) -> List[Any]:
    """The descriptors that protoc writes, each behind those that it imports."""
    whole = os.path.abspath(path)
    arguments = ["--include_imports", f"--descriptor_set_out={_OUTPUT}"]
    arguments += [f"-I{os.path.dirname(whole)}", whole]
    with temporary_folder() as folder:
        output, messages = os.path.join(folder, _OUTPUT), os.path.join(folder, _MESSAGES)
        try:
            with open(messages, "wb") as log:
                done = subprocess.run(
                    [*protoc, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,  # -m looks for modules here first: it must be empty
                    timeout=TIME_LIMIT,
                )
        except subprocess.TimeoutExpired:
            _fail(path, f"it took longer than {TIME_LIMIT:g} seconds")
        except OSError as error:
            _fail(path, str(error.strerror or error))
        if done.returncode:
            with open(messages, "rb") as log:
                message = log.read(_MESSAGES_READ).decode("utf-8", "replace")
            _refuse(path, message, done.returncode)
        try:
            with open(output, "rb") as handle:
                files = descriptor_pb2.FileDescriptorSet.FromString(handle.read()).file
        except (OSError, DecodeError):
            _fail(path, "it wrote no descriptors")
    return list(files)


def _refuse(path: str, text: str, status: int) -> NoReturn:
    """Raise the first error that protoc reported, at the place that it named."""
    match = _LOCATED.search(text)
    if match is None:
        lines = [line for line in text.splitlines() if line.strip()]
        _fail(path, lines[-1] if lines else f"its exit status is {status}")
    file, line, column, message = match.groups()
    whole = os.path.abspath(path)
    is_main_file = file in (whole, os.path.basename(path))  # else it is an import
    raise TextError(path if is_main_file else file, int(line), int(column), _clean(message))


def _fail(path: str, message: str) -> NoReturn:
    raise FileError(f"protoc cannot compile it: {_clean(message)}", path=path)


def _clean(message: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in message.strip())
    return shown[:_LONGEST_MESSAGE]
