"""Reads `config.pbtxt`, the single source of truth about a model: the one parser of the program.

Export, both backends and the commands read it through here. Its protobuf classes come with the Triton client.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

CONFIG_FILE = "config.pbtxt"


class ModelConfigError(ValueError):
    """A model's configuration contradicts itself, its files or the service's contract.

    It is found when a model is loaded and addresses the person who deploys the model, so it is no error of a request.
    """

    def __init__(self, model: str, field: str, found: object, expected: str) -> None:
        super().__init__(f"model {model!r}: {field} is {found}, expected {expected}")
        self.model = model
        self.field = field
        self.found = found
        self.expected = expected


def parse_config(text: str, model: str) -> ModelConfig:
    """The message of a configuration in text format. Raises ModelConfigError, naming `model`, where it is none."""
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise ModelConfigError(model, CONFIG_FILE, f"not valid ({error})", "a ModelConfig in text format") from error


def read_config(path: Path) -> ModelConfig:
    """Parse a `config.pbtxt`; a configuration without a name takes that of its folder, as in Triton.

    Raises:
        ModelConfigError: the file is missing, is no text protobuf of a ModelConfig, or names another folder.
    """
    folder = path.parent.name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelConfigError(folder, path.name, error.strerror, "a readable file") from error
    except UnicodeDecodeError as error:
        raise ModelConfigError(folder, path.name, f"not valid ({error})", "a ModelConfig in text format") from error
    config = parse_config(text, folder)
    if not config.name:
        config.name = folder
    if config.name != folder:
        raise ModelConfigError(folder, "name", repr(config.name), f"{folder!r}, the name of its folder")
    return config


def parameters_of(config: ModelConfig) -> dict[str, str]:
    """The parameters of a configuration."""
    return {key: value.string_value for key, value in config.parameters.items()}
