"""The access list of the compose stack names every command that a Lua script may come to, however seldom it does."""

import re
from pathlib import Path

import limits
import pytest

import service
from tests.fixtures.access_list import make_secrets, rules

SLIDING_WINDOW = "resources/redis/lua_scripts/*sliding_window.lua"
CALL = re.compile(r"redis\.p?call\(\s*['\"](\w+)['\"]")


def test_every_command_of_a_script_is_granted() -> None:
    ours = Path(service.__file__).parent.rglob("*.lua")
    theirs = Path(limits.__file__).parent.glob(SLIDING_WINDOW)
    called = {path: {c.lower() for c in CALL.findall(path.read_text())} for path in [*ours, *theirs]}
    assert {"rename", "xpending"} <= set().union(*called.values())
    granted = {rule.removeprefix("+") for rule in rules()}
    assert {path.name: names - granted for path, names in called.items() if names - granted} == {}


def test_the_list_of_an_earlier_release_gets_the_commands_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = make_secrets()
    monkeypatch.setattr(script, "ROOT", tmp_path)
    for volume in ("redis", "client", "worker", "triton", "grafana"):
        (tmp_path / volume).mkdir()
    script.main()
    users, url = tmp_path / "redis" / "users.acl", tmp_path / "client" / "vidtr_redis_url"
    written, password = users.read_text(), url.read_text()
    users.chmod(0o644)
    users.write_text(written.replace(" +time", ""))
    script.main()
    assert " +time" in written
    assert (users.read_text(), url.read_text()) == (written, password)
