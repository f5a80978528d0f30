"""`vidtr keys signing`."""

import stat
from pathlib import Path

from typer.testing import CliRunner, Result

from service.cli.main import app
from service.signing_keys import VerificationKey, read_public_keys, read_signing_key


def signing(file: Path) -> Result:
    return CliRunner().invoke(app, ["keys", "signing", str(file)])


def test_a_key_is_made_that_its_owner_alone_may_read(tmp_path: Path) -> None:
    made = signing(tmp_path / "key.pem")
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    (tmp_path / "public.pem").write_text(made.stdout)
    [public] = read_public_keys(tmp_path / "public.pem")
    assert public.id == VerificationKey(read_signing_key(tmp_path / "key.pem").public_key()).id
    assert made.stderr == f"key {public.id}\n"


def test_a_key_that_is_there_stays_and_its_public_half_is_printed(tmp_path: Path) -> None:
    made = signing(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    assert signing(tmp_path / "key.pem").stdout == made.stdout
    assert (tmp_path / "key.pem").read_bytes() == before


def test_a_file_that_is_no_key_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Buy milk.")
    (tmp_path / "notes.txt").chmod(0o600)
    refused = signing(tmp_path / "notes.txt")
    assert getattr(refused.exception, "code", None) == "invalid_signing_key"
    assert (tmp_path / "notes.txt").read_text() == "Buy milk."


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    refused = signing(tmp_path / "no" / "key.pem")
    assert refused.exit_code == 2
    assert "cannot be written: No such file or directory" in " ".join(refused.stderr.replace("│", "").split())
