"""The public keys that this process lists, and a warning where answers are signed with another one."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from service.signatures import header_of, key_of
from service.signing_keys import VerificationKey

log = structlog.get_logger()


class ListedKeys:
    """Public keys in the order in which they are listed."""

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self.keys = tuple(keys)
        self._headers = tuple(f"{header_of(key)}." for key in self.keys)

    def compare(self, signature: str | None) -> None:
        """Warn where callers cannot check the signature of an answer: a worker has a key that is not listed here."""
        if signature is not None and not signature.startswith(self._headers):
            log.warning(
                "signing_key_not_listed",
                key=key_of(signature),
                detail="Callers cannot check such answers. Add its public half to `signing_public_keys_file`.",
            )
