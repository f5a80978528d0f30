import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.api.api_keys import ApiKeyConfig, ApiKeyStore, hashed, new_key, parse_keys
from service.errors import InvalidKeys


def entry(key: str, name: str = "app", more: str = "") -> str:
    return f'[[keys]]\nname = "{name}"\nhash = "{hashed(key)}"\n{more}\n'


def ring(text: str | None = None, path: Path | None = None) -> ApiKeyStore:
    ring = ApiKeyStore(ApiKeyConfig(text, path))
    ring.load()
    return ring


def test_a_key_is_found_by_its_hash() -> None:
    key, other = new_key(), new_key()
    found = ring(entry(key, "one") + entry(other, "two")).find(other)
    assert found is not None
    assert found.name == "two"


def test_an_unknown_key_is_not_found() -> None:
    assert ring(entry(new_key())).find(new_key()) is None


def test_what_is_written_down_does_not_hold_the_key() -> None:
    key = new_key()
    assert key not in entry(key)
    assert ring(entry(key)).find(hashed(key)) is None


def test_two_keys_of_one_name_are_both_valid() -> None:
    old, new = new_key(), new_key()
    both = ring(entry(old) + entry(new))
    assert {found.name for key in (old, new) if (found := both.find(key))} == {"app"}
    assert both.names() == ["app"]


async def test_a_key_that_is_taken_out_of_a_mounted_secret_is_refused(tmp_path: Path) -> None:
    """The kubelet writes a new directory and then moves a link to it: the path of the file never changes."""
    kept, revoked = new_key(), new_key()
    for version, text in (("1", entry(kept) + entry(revoked, "gone")), ("2", entry(kept))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "api_keys.toml").write_text(text)
        os.utime(tmp_path / version / "api_keys.toml", ns=(1, 1))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "api_keys.toml").symlink_to("..data/api_keys.toml")
    keys = ring(path=tmp_path / "api_keys.toml")
    assert keys.find(revoked) is not None
    (tmp_path / "..data_tmp").symlink_to("2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    await keys.refresh()
    assert (keys.find(revoked), keys.names()) == (None, ["app"])


@pytest.mark.parametrize(("hours", "valid"), [(1, True), (-1, False)])
def test_a_key_is_valid_until_it_expires(hours: int, valid: bool) -> None:
    key = new_key()
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)
    keys = ring(entry(key, more=f"expires = {expires.isoformat()}"))
    assert (keys.find(key) is not None) is valid
    assert keys.names() == (["app"] if valid else [])


def test_two_new_keys_differ_and_are_long_enough_to_be_hashed() -> None:
    one, two = new_key(), new_key()
    assert one != two
    assert hashed(one) != hashed(two)


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(InvalidKeys) as caught:
        hashed("secret")
    assert (caught.value.limit, caught.value.actual) == (32, 6)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("keys = 3", "keys"),
        ("[[keys]", "not valid TOML"),
        ('[[keys]]\nname = "a"\nhash = "plain text"', "keys.0.hash"),
        (entry("k" * 40, more='requests = "many"'), "keys.0.requests"),
        (entry("k" * 40, more="expires = 2027-01-01T00:00:00"), "keys.0.expires"),
        (entry("k" * 40, more='quota = "1/day"'), "keys.0.quota"),
        (entry("k" * 40, name="a b"), "keys.0.name"),
    ],
)
def test_a_wrong_entry_is_named(text: str, named: str) -> None:
    with pytest.raises(InvalidKeys, match=named):
        parse_keys(text, "the file")


def test_a_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeys, match=r"keys\.toml"):
        ring(path=tmp_path / "keys.toml")


async def test_a_file_that_changes_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    old, new = new_key(), new_key()
    path.write_text(entry(old))
    keys = ring(entry(new_key(), "setting"), path)
    path.write_text(entry(new, "other"))
    os.utime(path, ns=(1, 1))
    await keys.refresh()
    assert keys.find(old) is None
    assert keys.names() == ["other", "setting"]
    path.write_text("broken")
    await keys.refresh()
    assert keys.find(new) is not None
