"""The key without which a Triton of this service does nothing but say how it is.

Loading a model into Triton runs code there: a load request can bring the model's files with it. So servers
that are started for this service restrict all of their protocols but health, and its workers bring the key.
"""

from __future__ import annotations

from typing import Any

from tritonclient.grpc.aio import InferenceServerClient, InferenceServerClientPlugin

_NAME = "vidtr-key"
_RESTRICTED = (
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)
GRPC_HEADER = f"triton-grpc-protocol-{_NAME}"


class _WithKey(InferenceServerClientPlugin):  # type: ignore[misc]
    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def __call__(self, request: Any) -> None:
        request.headers[GRPC_HEADER] = self._key


def client(url: str, key: str | None, channel_args: list[tuple[str, Any]] | None = None) -> InferenceServerClient:
    """A client of the server at `url`, which brings `key` where there is one."""
    made = InferenceServerClient(url, channel_args=channel_args)
    if key is not None:
        made.register_plugin(_WithKey(key))
    return made


def restrictions(key: str) -> list[str]:
    """Options of `tritonserver` that let only those in who bring `key`."""
    return [
        f"--grpc-restricted-protocol={','.join(_RESTRICTED)}:{_NAME}={key}",
        f"--http-restricted-api={','.join(_RESTRICTED)}:{_NAME}={key}",
    ]
