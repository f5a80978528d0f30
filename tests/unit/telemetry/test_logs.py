import subprocess
import sys

import pytest

SCRIPT = """
import structlog
from service.telemetry import logs

logs.configure("info", "{fmt}", "api")

def fail():
    key = "vidtr_" + "secret"
    raise ZeroDivisionError("what now")

try:
    fail()
except ZeroDivisionError:
    structlog.get_logger().exception("it_failed")
"""


@pytest.mark.parametrize("fmt", ["console", "json"])
def test_an_exception_is_logged_with_its_cause_and_without_the_values_of_variables(fmt: str) -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT.format(fmt=fmt)], capture_output=True, text=True, check=True)
    assert "it_failed" in run.stderr
    assert "ZeroDivisionError: what now" in run.stderr
    assert "vidtr_secret" not in run.stderr
