"""Files of keys, and the keys of a service as JWKS."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_elliptic_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from service.errors import InvalidSigningKey
from service.signing_keys import (
    MAX_FILE_BYTES,
    VerificationKey,
    from_base64url,
    keys_of_set,
    new_signing_key,
    published_keys,
    read_public_keys,
    read_signing_key,
)


def private_file(path: Path, pem: str | bytes | None = None, mode: int = 0o600) -> Path:
    text = new_signing_key() if pem is None else pem
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def public_of(path: Path) -> VerificationKey:
    return VerificationKey(read_signing_key(path).public_key())


def test_a_key_is_named_by_the_thumbprint_of_the_standard() -> None:
    x = from_base64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    key = VerificationKey(Ed25519PublicKey.from_public_bytes(x))
    assert key.id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_key_survives_its_file_and_its_jwk(tmp_path: Path) -> None:
    key = public_of(private_file(tmp_path / "key.pem", mode=0o640))
    (tmp_path / "public.pem").write_text(key.pem)
    assert [one.jwk for one in read_public_keys(tmp_path / "public.pem")] == [key.jwk]
    assert [one.id for one in keys_of_set({"keys": [key.jwk]})] == [key.id]


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602], ids=oct)
def test_a_private_key_that_every_user_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = private_file(tmp_path / "key.pem", mode=mode)
    with pytest.raises(InvalidSigningKey, match=f"{path} has mode 0{mode:o}"):
        read_signing_key(path)


def encrypted() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
    )


def elliptic() -> bytes:
    return new_elliptic_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def elliptic_public() -> str:
    key = new_elliptic_key(SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (encrypted(), "is encrypted"),
        (elliptic(), "must be of Ed25519"),
        (b"", "holds no private key"),
        (b"\x00" * 64, "holds no private key"),
        (new_signing_key().replace("A", "B").encode(), "holds no private key"),
        (b"a" * (MAX_FILE_BYTES + 1), f"has more than {MAX_FILE_BYTES} bytes"),
    ],
    ids=["encrypted", "another kind", "empty", "no text", "damaged", "large"],
)
def test_a_file_without_a_usable_private_key_is_named(tmp_path: Path, pem: bytes, said: str) -> None:
    path = private_file(tmp_path / "key.pem", pem)
    with pytest.raises(InvalidSigningKey, match=said) as raised:
        read_signing_key(path)
    assert str(path) in raised.value.detail


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (read_signing_key, read_public_keys):
        with pytest.raises(InvalidSigningKey, match=f"{tmp_path / 'gone'} cannot be read: No such file"):
            read(tmp_path / "gone")


def test_a_folder_is_no_file_of_keys(tmp_path: Path) -> None:
    with pytest.raises(InvalidSigningKey, match="cannot be read: Is a directory"):
        read_signing_key(tmp_path)


def test_a_file_of_public_keys_has_several_with_text_between_them(tmp_path: Path) -> None:
    keys = [public_of(private_file(tmp_path / f"{number}.pem")) for number in range(3)]
    (tmp_path / "public.pem").write_text("".join(f"# since 202{n}\n{key.pem}\n" for n, key in enumerate(keys)))
    assert [key.id for key in read_public_keys(tmp_path / "public.pem")] == [key.id for key in keys]


def test_a_saved_key_set_is_a_file_of_public_keys(tmp_path: Path) -> None:
    key = public_of(private_file(tmp_path / "key.pem"))
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [key.jwk]}, indent=1))
    assert [one.id for one in read_public_keys(tmp_path / "jwks.json")] == [key.id]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (new_signing_key(), "holds a private key"),
        ("", "holds no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read, its number 1"),
        (elliptic_public(), "must be of Ed25519"),
        ('{"keys": []}', "none of its 0 keys is of Ed25519"),
        ('{"keys": 1}', "no JSON Web Key Set"),
        ('{"keys"', "holds no public keys"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}]}', "holds a private key"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}', "holds no public keys"),
        ('{"keys": [{"kty": "EC", "crv": "P-256"}, 7]}', "none of its 2 keys"),
    ],
)
def test_a_file_that_is_not_one_of_public_keys_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "public").write_text(text)
    with pytest.raises(InvalidSigningKey, match=said):
        read_public_keys(tmp_path / "public")


def test_a_service_lists_the_key_that_signs_first_and_each_once(tmp_path: Path) -> None:
    old, new = private_file(tmp_path / "old.pem"), private_file(tmp_path / "new.pem")
    public = tmp_path / "public.pem"
    public.write_text(public_of(old).pem + public_of(new).pem)

    def listed(*files: Any) -> list[str]:
        return [key.id for key in published_keys(*files)]

    assert listed(new, public) == [public_of(new).id, public_of(old).id]
    assert listed(None, public) == [public_of(old).id, public_of(new).id]
    assert listed(new, None) == [public_of(new).id]
    assert listed(None, None) == []
