"""API keys: stored as hashes in TOML, looked up in constant time, reloaded when their file changes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from service.contracts import Quota
from service.errors import InvalidKeys, sentence

log = structlog.get_logger()

KEY_PREFIX = "vidtr_"
KEY_BYTES = 32
# A hash without salt and stretching protects long random keys only.
MIN_KEY_LENGTH = 32


class ApiKey(BaseModel):
    """One entry of the list. Entries of the same name are keys of the same caller: that is how keys are replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    expires: AwareDatetime | None = None
    requests: Quota | None = None
    video_seconds: Quota | None = None

    def valid_at(self, now: float) -> bool:
        """Whether the key may be used at this Unix time."""
        return self.expires is None or now < self.expires.timestamp()


class _KeyList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[ApiKey, ...] = ()


def new_key() -> str:
    """A new random key."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hashed(key: str) -> str:
    """The stored form of a key. Raises InvalidKeys where it is so short that its hash could be reversed."""
    if len(key) < MIN_KEY_LENGTH:
        detail = f"The API key has {len(key)} characters. Use at least {MIN_KEY_LENGTH} random ones."
        raise InvalidKeys(detail, limit=MIN_KEY_LENGTH, actual=len(key))
    return _digest(key)


def _digest(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def parse_keys(text: str, source: str) -> tuple[ApiKey, ...]:
    """The entries of a TOML text. Raises InvalidKeys, which names `source` and the entry."""
    try:
        return _KeyList.model_validate(tomllib.loads(text)).keys
    except tomllib.TOMLDecodeError as error:
        raise InvalidKeys(f"API keys in {source} are not valid TOML: {sentence(str(error))}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidKeys(f"API keys in {source} are not valid at {where}: {sentence(first['msg'])}") from error


@dataclass(frozen=True)
class ApiKeyConfig:
    """Where the keys are configured. Field names equal those of `service.settings.Settings`."""

    api_keys: str | None
    api_keys_file: Path | None


class ApiKeyStore:
    """The API keys of one process."""

    def __init__(self, config: ApiKeyConfig) -> None:
        self._config = config
        self._seen: tuple[int, int] | None = None
        self.keys: tuple[ApiKey, ...] = ()

    def load(self) -> None:
        """Read all keys. Raises InvalidKeys."""
        keys = () if self._config.api_keys is None else parse_keys(self._config.api_keys, "the setting api_keys")
        path = self._config.api_keys_file
        if path is not None:
            try:
                self._seen = _version(path)
                keys += parse_keys(path.read_text(encoding="utf-8"), str(path))
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidKeys(f"The API key file {path} cannot be read: {sentence(str(error))}") from error
        self.keys = keys

    async def refresh(self) -> None:
        """Read the file again where it has changed; one that cannot be used leaves the keys as they were."""
        path = self._config.api_keys_file
        if path is None:
            return
        try:
            if await asyncio.to_thread(_version, path) != self._seen:
                await asyncio.to_thread(self.load)
                log.info("keys_read", names=self.names())
        except (InvalidKeys, OSError) as error:
            log.error("keys_unusable", detail=str(error))

    def find(self, key: str) -> ApiKey | None:
        """The valid entry of `key`. Every entry is compared, so that the time taken reveals nothing."""
        digest, now, found = _digest(key), time.time(), None
        for entry in self.keys:
            if hmac.compare_digest(entry.hash, digest) and entry.valid_at(now):
                found = entry
        return found

    def named(self, name: str) -> ApiKey | None:
        """A valid entry of a caller."""
        now = time.time()
        return next((entry for entry in self.keys if entry.name == name and entry.valid_at(now)), None)

    def names(self) -> list[str]:
        """Callers that have a valid key."""
        now = time.time()
        return sorted({entry.name for entry in self.keys if entry.valid_at(now)})


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ino
