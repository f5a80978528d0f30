"""Completion of `vidtr` in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
COMPLETE = """
COMP_WORDS=({words}) COMP_CWORD=$(({count} - 1))
"$(complete -p vidtr | sed 's/.*-F \\([^ ]*\\).*/\\1/')" vidtr
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

pytestmark = pytest.mark.skipif(BASH is None, reason="no bash on this machine")


def bash(script: str, home: Path) -> str:
    """What a script prints where `vidtr` is on the path."""
    assert BASH is not None
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # More than one command, so that bash does not give its process to the last: the shell is told from its process.
    done = subprocess.run(
        [BASH, "--norc", "-c", f"{script}\nexit 0"],
        env={**os.environ, "HOME": str(home), "PATH": path, "SHELL": BASH},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def completions(setup: str, words: tuple[str, ...], home: Path) -> list[str]:
    """What bash offers for the last of `words` after `setup`."""
    typed = " ".join(f"'{word}'" for word in ("vidtr", *words))
    return bash(setup + COMPLETE.format(words=typed, count=len(words) + 1), home).split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("cla",), ["classify"]),
        (("models", "sh"), ["show"]),
        (("classify", "--win"), ["--windows"]),
        (("nothing-of-ours",), []),
    ],
)
def test_the_completion_that_is_shown_completes(words: tuple[str, ...], offered: list[str], tmp_path: Path) -> None:
    assert completions('eval "$(vidtr --show-completion)"', words, tmp_path) == offered


def test_every_command_is_offered_where_nothing_is_typed_yet(tmp_path: Path) -> None:
    offered = completions('eval "$(vidtr --show-completion)"', ("",), tmp_path)
    assert {"up", "api", "worker", "classify", "explain", "doctor", "models", "dead", "keys"} <= set(offered)


def test_the_completion_that_is_installed_completes_in_the_next_shell(tmp_path: Path) -> None:
    said = bash("vidtr --install-completion", tmp_path)
    assert "bash completion installed" in said
    assert completions("source ~/.bashrc", ("cla",), tmp_path) == ["classify"]
