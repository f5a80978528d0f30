import platform
import sys
import zipfile
from pathlib import Path

import pytest

from service.local.process import LocalServerError
from service.local.triton_install import install_triton, is_installed, missing_libraries
from service.local.triton_process import LocalTriton


def test_a_missing_python_library_is_reported_with_its_package() -> None:
    message = missing_libraries({"libpython3.12.so.1.0", "libodd.so.3"})

    assert "libodd.so.3, libpython3.12.so.1.0" in message
    assert "apt install libpython3.12" in message


def test_a_missing_library_without_a_known_package_is_only_named() -> None:
    assert missing_libraries({"libodd.so.3"}).endswith("libodd.so.3")


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")])
def test_other_platforms_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)

    with pytest.raises(LocalServerError, match=f"this is {system} {machine}"):
        install_triton(tmp_path / "triton")
    assert not (tmp_path / "triton").exists()


def test_an_unfinished_installation_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "pytriton").mkdir()

    assert not is_installed(tmp_path)


def test_an_installation_for_another_python_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "INSTALLED").write_text("nvidia-pytriton==0.7.0 python3.8\n")

    assert not is_installed(tmp_path)


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the wheel is for Linux x86-64"
)
def test_a_complete_installation_is_only_given_the_current_backend(tmp_path: Path) -> None:
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (tmp_path / "INSTALLED").write_text(f"nvidia-pytriton==0.7.0 {python}\n")
    backend = tmp_path / "backends" / "pytorch" / "model.py"
    backend.parent.mkdir(parents=True)
    backend.write_text("outdated")

    install_triton(tmp_path)

    assert "class TritonPythonModel" in backend.read_text()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "INSTALLED",
        "model.py",
        "model.py",
        "torchscript_archive.py",
        "triton_stalls.py",
        "triton_stalls.py",
    ]


def test_a_server_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    server = LocalTriton(tmp_path, tmp_path, log=tmp_path / "log")

    with pytest.raises(LocalServerError, match="vidtr install-triton"):
        server.start()


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the wheel is for Linux x86-64"
)
def test_a_wheel_of_another_content_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "nvidia_pytriton-0.7.0-py3-none-any.whl", "w") as wheel:
        info = "nvidia_pytriton-0.7.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nvidia-pytriton\nVersion: 0.7.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(LocalServerError, match="DO NOT MATCH THE HASHES"):
        install_triton(tmp_path / "triton")
