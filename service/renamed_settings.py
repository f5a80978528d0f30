"""Settings under the names that they had in the last release: they still count, each with a warning."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource, PydanticBaseSettingsSource

# Old names and new ones. An entry leaves one release after the name that it replaces.
RENAMED: Mapping[str, str] = {"worker_gather_ms": "worker_batch_delay_ms"}


class RenamedSettingsSource(PydanticBaseSettingsSource):
    """Reads old names from the environment and the `.env` file, below every other source.

    Warns with a FutureWarning where an old name decides the value.
    """

    def __init__(self, dotenv: PydanticBaseSettingsSource, prefix: str) -> None:
        super().__init__(dotenv.settings_cls)
        self._dotenv = dotenv
        self._prefix = prefix

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not used: values are read by their old names in `__call__`."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The values that stand under old names only."""
        in_file = self._dotenv.env_vars if isinstance(self._dotenv, DotEnvSettingsSource) else {}
        given = {name.upper(): value for name, value in (*in_file.items(), *os.environ.items())}
        found: dict[str, Any] = {}
        for old, new in RENAMED.items():
            variables = [f"{self._prefix}{name}".upper() for name in (old, new)]
            if given.get(variables[0]) is not None and new not in self.current_state:
                warnings.warn(f"{variables[0]} is now {variables[1]}: please rename it.", FutureWarning, stacklevel=2)
                found[new] = given[variables[0]]
        return found
