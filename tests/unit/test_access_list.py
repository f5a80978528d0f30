"""The access list of the compose stack names every command that a Lua script may come to, however seldom it does."""

import re
from pathlib import Path

import limits

import service
from tests.fixtures.access_list import rules

SLIDING_WINDOW = "resources/redis/lua_scripts/*sliding_window.lua"
CALL = re.compile(r"redis\.p?call\(\s*['\"](\w+)['\"]")


def test_every_command_of_a_script_is_granted() -> None:
    ours = Path(service.__file__).parent.rglob("*.py")
    theirs = Path(limits.__file__).parent.glob(SLIDING_WINDOW)
    called = {path: {c.lower() for c in CALL.findall(path.read_text())} for path in [*ours, *theirs]}
    assert {"rename", "xpending"} <= set().union(*called.values())
    granted = {rule.removeprefix("+") for rule in rules()}
    assert {path.name: names - granted for path, names in called.items() if names - granted} == {}
