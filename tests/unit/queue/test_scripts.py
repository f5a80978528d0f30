"""The Lua scripts as files: their headers, the loader, and what a call has to give."""

import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

import service.queue
from service.queue.scripts import Script, load, pieces_of, source

PACKAGE = Path(service.queue.__path__[0])
SCRIPTS = sorted(file.stem for file in (PACKAGE / "lua").glob("*.lua"))
FRAGMENTS = sorted(f"include/{file.stem}" for file in (PACKAGE / "lua/include").glob("*.lua"))
ALIASES = re.compile(r"^local ([\w, ]+) = ((?:(?:KEYS|ARGV)\[\d+\]|unpack\((?:KEYS|ARGV), \d+, \d+\)|, )+)$", re.M)
PLACE = re.compile(r"(KEYS|ARGV)\[(\d+)\]|unpack\((KEYS|ARGV), (\d+), (\d+)\)")


def places(expressions: str) -> list[tuple[str, int]]:
    """The elements that the right side of an alias line names."""
    found = []
    for one, at, several, first, last in PLACE.findall(expressions):
        found += [(one, int(at))] if one else [(several, i) for i in range(int(first), int(last) + 1)]
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_aliases_of_a_script_are_the_names_of_its_header(name: str) -> None:
    script = load(name)
    for names, expressions in ALIASES.findall(source(name)):
        for alias, (kind, at) in zip(names.split(", "), places(expressions), strict=True):
            assert alias == (script.keys if kind == "KEYS" else script.arguments).names[at - 1]


@pytest.mark.parametrize("name", [*SCRIPTS, *FRAGMENTS])
def test_a_script_says_what_it_does_and_keeps_to_the_width(name: str) -> None:
    lines = source(name).splitlines()
    assert re.match(r"-- [A-Z`]", lines[0])
    assert max(map(len, lines)) <= 120


def test_every_script_is_called_and_every_fragment_is_included() -> None:
    called = {
        name
        for file in PACKAGE.glob("*.py")
        for name in re.findall(r'Script\(redis, "(\w+)"\)', file.read_text(encoding="utf-8"))
    }
    assert called == set(SCRIPTS)
    assert {piece for name in SCRIPTS for piece in pieces_of(name)} == {*SCRIPTS, *FRAGMENTS}


def test_a_fragment_comes_once_and_after_those_that_it_includes() -> None:
    pieces = pieces_of("finish")
    assert len(set(pieces)) == len(pieces)
    assert pieces.index("include/now") < pieces.index("include/enqueue_webhook") < pieces.index("finish")


def test_values_are_put_in_the_order_of_the_header() -> None:
    given = {"models": 1, "routes": 2}
    assert load("clear_streams").keys.in_order(given) == [1, 2]
    arguments = {"group": "g", "entries_and_clips": ["1-0", 4, "2-0", 5]}
    assert load("dismiss").arguments.in_order(arguments) == ["g", "1-0", 4, "2-0", 5]


@pytest.mark.parametrize(
    "keys", [{}, {"key": 1, "more": 2}, {"other": 1}], ids=["one too few", "one too many", "another name"]
)
async def test_a_call_with_other_keys_than_those_of_the_header_is_an_error(keys: dict[str, int]) -> None:
    script = Script(Redis(unix_socket_path="/nowhere"), "release_key")
    with pytest.raises(TypeError, match="The script takes key; it was given"):
        await script(keys=keys, args={"token": "t"})


async def test_arguments_in_another_order_are_an_error() -> None:
    script = Script(Redis(unix_socket_path="/nowhere"), "claim_key")
    with pytest.raises(TypeError, match="takes token, life_ms, job_prefix; it was given life_ms, token, job_prefix"):
        await script(keys={"key": "k"}, args={"life_ms": 1, "token": "t", "job_prefix": "p"})
