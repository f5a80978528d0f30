"""The documentation names what exists, all of it and nothing else. What exists is asked of the code's own objects."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from google.protobuf import text_format
from prometheus_client.metrics import MetricWrapperBase
from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo
from tritonclient.grpc.model_config_pb2 import ModelConfig
from typer.core import TyperCommand, TyperGroup

from service.api import swagger
from service.api.app import create_app
from service.api.problems import STATUS
from service.api.schemas import ClassifyOptions
from service.cli.main import app as cli
from service.contracts import EventRules
from service.errors import error_types
from service.model.presets import PRESETS
from service.model.repository_entry import MEASURED
from service.model.triton_config import triton_config
from service.model.triton_options import TritonOptions
from service.queue.redis_keys import RedisKeys
from service.settings import Settings
from service.telemetry import metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
WEB = ROOT / "service" / "web"

_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_HEADING = re.compile(r"^(#+) (.+)$", re.M)
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_UNITS = {"_s": "seconds", "_per_s": "bytes per second", "_ms": "milliseconds", "_bytes": "bytes"}


def sections(page: Path, level: int) -> dict[str, str]:
    """Text below each heading of `level`, up to the next heading of that level or above."""
    parts = re.split(rf"^(#{{1,{level}}}) (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.M)
    found = [(title, body) for mark, title, body in zip(*[iter(parts[1:])] * 3, strict=True) if len(mark) == level]
    titles = [title for title, _ in found]
    assert len(set(titles)) == len(titles), f"{page.name} repeats a heading"
    return dict(found)


def within(page: Path, chapter: str) -> set[str]:
    """Headings of level 3 in one chapter of level 2."""
    text = sections(page, 2)[chapter]
    return {title for mark, title in _HEADING.findall(text) if mark == "###"}


def stated(section: str, key: str) -> str | None:
    """The value that a list item such as "- Default: `8080`" gives."""
    match = re.search(rf"^- {key}: `?(.*?)`?$", section, re.M)
    return None if match is None else match[1]


# --- settings ----------------------------------------------------------------------------------------------------

FIELDS = Settings.model_fields
SETTINGS = DOCS / "settings.md"


def variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return next(choice for choice in alias.choices if isinstance(choice, str) and choice.isupper())
    return f"{Settings.model_config['env_prefix']}{name.upper()}"


def as_text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def example_lines() -> dict[str, str]:
    """Variables of .env.example, without the comment mark before them."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", text, re.M))


def test_every_setting_has_its_heading_and_no_heading_is_left_over() -> None:
    assert set(sections(SETTINGS, 3)) == set(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_is_documented_with_its_default(name: str) -> None:
    default = FIELDS[name].default
    assert stated(sections(SETTINGS, 3)[name], "Default") == ("unset" if default is None else as_text(default))


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_is_documented_with_its_variable(name: str) -> None:
    assert stated(sections(SETTINGS, 3)[name], "Variable") == variable(name, FIELDS[name])


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_is_documented_with_its_own_description(name: str) -> None:
    written = " ".join(sections(SETTINGS, 3)[name].split())
    assert " ".join((FIELDS[name].description or "").split()) in written


@pytest.mark.parametrize("name", [name for name in FIELDS if name.endswith(tuple(_UNITS))])
def test_the_documented_unit_is_that_of_the_name(name: str) -> None:
    suffix = max((suffix for suffix in _UNITS if name.endswith(suffix)), key=len)
    assert stated(sections(SETTINGS, 3)[name], "Unit") == _UNITS[suffix]


def test_the_example_file_lists_every_variable_with_its_default() -> None:
    assert example_lines() == {
        variable(name, field): "" if field.default is None else as_text(field.default) for name, field in FIELDS.items()
    }


def test_the_example_file_uncommented_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in FIELDS.items():
        monkeypatch.delenv(variable(name, field), raising=False)
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in example_lines().items() if value))
    loaded = Settings(_env_file=env_file)
    assert loaded.model_dump() == {name: field.default for name, field in FIELDS.items()}


# --- errors ------------------------------------------------------------------------------------------------------

ERRORS = DOCS / "errors.md"


def test_every_error_code_has_its_heading_and_no_heading_is_left_over() -> None:
    assert set(sections(ERRORS, 3)) == set(error_types())


def test_every_error_code_has_an_http_status_and_every_status_a_code() -> None:
    assert set(STATUS) == set(error_types())


@pytest.mark.parametrize("code", STATUS)
def test_an_error_is_documented_with_its_status(code: str) -> None:
    assert sections(ERRORS, 3)[code].strip().startswith(f"Status: {STATUS[code]}.")


# --- metrics -----------------------------------------------------------------------------------------------------


def exposed() -> dict[str, MetricWrapperBase]:
    """Metrics by the name under which Prometheus sees them: those of counters get a suffix."""
    found = (value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase))
    return {
        family.name + ("_total" if family.type == "counter" else ""): metric
        for metric in found
        for family in metric.describe()
    }


METRICS = DOCS / "metrics.md"


def test_every_metric_has_its_heading_and_no_heading_is_left_over() -> None:
    assert set(sections(METRICS, 3)) == set(exposed())


@pytest.mark.parametrize("name", exposed())
def test_a_metric_is_documented_with_its_type_and_labels(name: str) -> None:
    metric = exposed()[name]
    (family,) = metric.describe()
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    opening = f"{family.type.capitalize()}; " + (f"labels: {labels}." if labels else "no labels.")
    assert sections(METRICS, 3)[name].strip().startswith(opening)


def metrics_table() -> dict[str, tuple[str, str]]:
    """Type and labels of each metric in the table of the page."""
    rows = re.findall(
        r"^\| \[`(\w+)`\]\(#\1\) \| (\w+) \| (.*?) ?\| \w+ \|$", METRICS.read_text(encoding="utf-8"), re.M
    )
    return {name: (kind, labels) for name, kind, labels in rows}


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    def row(metric: MetricWrapperBase) -> tuple[str, str]:
        (family,) = metric.describe()
        return family.type, ", ".join(f"`{label}`" for label in metric._labelnames)

    assert metrics_table() == {name: row(metric) for name, metric in exposed().items()}


@pytest.mark.parametrize("name", exposed())
def test_a_metric_is_documented_with_an_example_query(name: str) -> None:
    queries = re.findall(r"^```promql$(.*?)^```$", METRICS.read_text(encoding="utf-8"), re.M | re.S)
    assert any(re.search(rf"\b{name}(_bucket|_sum|_count)?\b", query) for query in queries)


# --- the command line --------------------------------------------------------------------------------------------

CLI = DOCS / "cli.md"


def flags_by_command() -> dict[str, set[str]]:
    """Flags and arguments of `vidtr` itself and of each of its commands."""
    found = {}

    def visit(name: str, command: object) -> None:
        assert isinstance(command, TyperCommand | TyperGroup)
        found[name] = {
            spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)
        }
        for child, below in getattr(command, "commands", {}).items():
            visit(f"{name} {child}", below)

    visit("vidtr", typer.main.get_command(cli))
    return found


def test_every_command_has_its_heading_and_no_heading_is_left_over() -> None:
    assert set(sections(CLI, 2)) == set(flags_by_command())


@pytest.mark.parametrize(("command", "flags"), flags_by_command().items())
def test_every_flag_of_a_command_has_its_heading_below_it(command: str, flags: set[str]) -> None:
    assert within(CLI, command) == flags


# --- http --------------------------------------------------------------------------------------------------------

API = DOCS / "api.md"


def routes() -> set[str]:
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    return {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}


def test_every_route_has_its_heading_and_no_heading_is_left_over() -> None:
    assert within(API, "Routes") == routes()


def test_every_option_of_a_classification_has_its_heading_and_no_heading_is_left_over() -> None:
    assert within(API, "Options") == set(ClassifyOptions.model_fields)


def test_the_table_of_statuses_holds_every_status_of_an_error() -> None:
    table = set(map(int, re.findall(r"^\| (\d{3}) \|", API.read_text(encoding="utf-8"), re.M)))
    assert table == {200, 201, 202, 204, *STATUS.values()}


# --- the model repository and redis ------------------------------------------------------------------------------


def test_every_parameter_of_a_model_has_its_heading_and_no_heading_is_left_over() -> None:
    preset = PRESETS["untrained_tiny"]
    block = TritonOptions(threads=1).block(preset.card.max_batch_size)
    # Written where they are not the default.
    thresholds, qualifiers = (0.5,) * len(preset.card.labels), preset.card.labels[:1]
    judged = replace(preset.card, activation="sigmoid", thresholds=thresholds, qualifiers=qualifiers)
    card = replace(judged, framing="whole", clip_format="yuv420", events=EventRules())
    text = triton_config("any", preset.config, card, {"1": "0" * 64}, block, {"1": {}})
    config = text_format.Parse(text, ModelConfig())
    assert within(DOCS / "model-repository.md", "Parameters") == {*config.parameters, MEASURED}


def test_every_preset_is_named_in_the_command_line_page() -> None:
    chapter = sections(CLI, 2)["vidtr export"]
    named = re.search(r"^### model$(.*?)^###", chapter, re.M | re.S)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == set(PRESETS)


def redis_names() -> Iterator[str]:
    keys = RedisKeys("{prefix}")
    for name, member in inspect.getmembers(RedisKeys):
        if isinstance(member, property):
            yield getattr(keys, name)
        elif inspect.isfunction(member) and not name.startswith("_"):
            parameters = [parameter for parameter in inspect.signature(member).parameters if parameter != "self"]
            yield member(keys, *(f"{{{parameter}}}" for parameter in parameters))


def test_the_table_of_redis_keys_is_that_of_the_code() -> None:
    page = (DOCS / "architecture-storage.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\{prefix\}[^`]*)` \|", page, re.M)
    assert sorted(table) == sorted(redis_names())


def test_the_table_of_packages_holds_everything_below_service() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("## Packages")[2].partition("## ")[0]
    rows = (re.findall(r"`([\w.]+)`", cell) for cell in re.findall(r"^\| (`[^|]+) \|", page, re.M))
    present = {path.name for path in (ROOT / "service").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert {name for row in rows for name in row} == present - {"__init__.py", "__pycache__", "swagger"}


# --- the pages themselves ----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Targets that GitHub makes of a page's headings."""
    titles = (title for _, title in _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_json_example_of_a_page_can_be_parsed(page: Path) -> None:
    for block in re.findall(r"^```json$(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
        json.loads(block)


@pytest.mark.parametrize("message", re.findall(r"^### `([^`]+)`$", (DOCS / "troubleshooting.md").read_text(), re.M))
def test_a_message_that_troubleshooting_quotes_is_one_of_the_program(message: str) -> None:
    # Pydantic words the messages about values.
    if message == "Input should be a valid":
        with pytest.raises(ValidationError, match=message):
            Settings.model_validate({"port": "x"})
        return
    sources = [*(ROOT / "service").rglob("*.py"), ROOT / "Makefile"]
    joined = (re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8")) for path in sources)
    assert any(message.lower() in text.lower() for text in joined)


def test_no_text_of_the_repository_names_a_place_on_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    # Put together here, so that this file does not hold what it looks for.
    places = [f"/{root}/".encode() for root in ("work", "root", "home")]
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    named = [path for path in files if path.is_file() and any(place in path.read_bytes() for place in places)]
    assert [str(path.relative_to(ROOT)) for path in named] == []


# --- the page for the browser ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(WEB.iterdir()), ids=lambda path: path.name)
def test_the_page_loads_nothing_from_other_hosts(path: Path) -> None:
    # The name of a namespace is no address.
    text = re.sub(r'xmlns="[^"]*"', "", path.read_text(encoding="utf-8"))
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text)


def test_every_part_that_the_page_loads_is_shipped_with_it() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in WEB.iterdir())
    loaded = set(re.findall(r"""(?:src=|href=|from )"(?:\./|static/)?([\w-]+\.(?:js|css|svg))\"""", text))
    assert loaded == {path.name for path in WEB.iterdir()} - {"index.html"}


@pytest.mark.parametrize("path", sorted(WEB.glob("*.js")), ids=lambda path: path.name)
def test_every_element_that_a_script_asks_for_is_on_the_page(path: Path) -> None:
    asked = set(re.findall(r"""\$\("([\w-]+)"\)""", path.read_text(encoding="utf-8")))
    present = set(re.findall(r"""\bid="([\w-]+)\"""", (WEB / "index.html").read_text(encoding="utf-8")))
    assert asked <= present


def test_every_link_of_the_page_into_the_service_is_served() -> None:
    served = {route.removeprefix("GET ") for route in routes()} | {swagger.PATH}
    links = set(re.findall(r'<a href="([^"]+)"', (WEB / "index.html").read_text(encoding="utf-8")))
    assert {f"/{link}" for link in links} <= served
