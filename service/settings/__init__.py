"""All settings of the program. Each is read from the environment variable `VIDTR_<NAME>`, a `.env` file or a secret.

This is the only module that reads the environment; only the command line and the app factories read Settings.
"""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from service.redis_url import RedisUrl, hash_tag
from service.renamed_settings import RenamedSettingsSource
from service.settings.batch_settings import BatchSettings
from service.settings.http_settings import HttpSettings
from service.settings.model_settings import Engine as Engine
from service.settings.model_settings import ModelSettings
from service.settings.redis_settings import RedisSettings
from service.settings.video_settings import VideoSettings
from service.settings.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

SECRETS_DIR = Path("/run/secrets")
# Names a directory of secrets of this program alone, which go before variables.
SECRETS_VARIABLE = "VIDTR_SECRETS_DIR"
# Settings that hold passwords, keys or their hashes: they reach child processes by files, never by the environment.
SECRET = ("api_keys", "otlp_endpoint", "redis_url", "triton_key", "webhook_secret")


class Settings(VideoSettings, WorkerSettings, RedisSettings, ModelSettings, BatchSettings, HttpSettings, BaseSettings):
    """The one config surface. Units stand in the names: `_s` seconds, `_ms` milliseconds, `_bytes` bytes."""

    model_config = SettingsConfigDict(
        env_prefix="VIDTR_",
        env_file=".env",
        # Where Docker and Kubernetes mount secrets: a file `vidtr_redis_url` keeps a password out of the environment.
        secrets_dir=SECRETS_DIR if SECRETS_DIR.is_dir() else None,
        extra="ignore",
        frozen=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, data: dict[str, object]) -> dict[str, object]:
        lists = {name for name, field in cls.model_fields.items() if field.annotation == tuple[str, ...]}
        return {
            key: tuple(part.strip() for part in value.split(",") if part.strip())
            if key in lists and isinstance(value, str)
            else value
            for key, value in data.items()
        }

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        RedisUrl.parse(value)
        return value

    @field_validator("source_buckets", "batch_destinations")
    @classmethod
    def _buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for bucket in value:
            if not re.fullmatch(r"(s3|gs)://[a-z0-9][a-z0-9._-]{1,221}", bucket):
                raise ValueError(f"{bucket!r} is no bucket: write each as `s3://name` or `gs://name`")
        return value

    @model_validator(mode="after")
    def _partitions_hold_a_job(self) -> Settings:
        share = -(-self.max_queue_clips // self.queue_partitions)
        if self.queue_partitions > 1 and share < self.max_clips_per_job:
            raise ValueError(
                f"each of {self.queue_partitions} `queue_partitions` may hold {share} of {self.max_queue_clips}"
                f" `max_queue_clips`, and a job may have {self.max_clips_per_job} (`max_clips_per_job`);"
                f" set `max_queue_clips` to {self.queue_partitions * self.max_clips_per_job} at least"
            )
        if self.queue_partitions > 1 and hash_tag(self.redis_prefix):
            raise ValueError(
                f"`redis_prefix` is {self.redis_prefix}, and with {self.queue_partitions} `queue_partitions` each has a"
                " hash tag of its own; leave the braces out"
            )
        return self

    @property
    def triton_urls(self) -> tuple[str, ...]:
        """Each address of `triton_url`."""
        return tuple(url.strip() for url in self.triton_url.split(",") if url.strip())

    def subset(self, config: type[Config]) -> Config:
        """A package's own config: a dataclass whose field names are names of settings."""
        return config(**{field.name: getattr(self, field.name) for field in fields(config)})

    def child_environment(self, secrets: Path) -> dict[str, str]:
        """The environment of a child process that is to have these same settings.

        Secrets are not in it: they go into files in the directory `secrets`, which only this user can read, and which
        has to outlive the start of the child.
        """
        values = self.model_dump(mode="json", exclude={"prometheus_multiproc_dir"}, exclude_none=True)
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in SECRET:
            file = secrets / f"vidtr_{name}"
            file.unlink(missing_ok=True)
            if name in values:
                file.touch(mode=0o600)
                file.write_text(values.pop(name))
        variables = {
            f"VIDTR_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
            for name, value in values.items()
        }
        if self.prometheus_multiproc_dir is not None:
            variables["PROMETHEUS_MULTIPROC_DIR"] = str(self.prometheus_multiproc_dir)
        secret = {f"VIDTR_{name}".upper() for name in SECRET}
        kept = {name: value for name, value in os.environ.items() if name.upper() not in secret}
        return {**kept, **variables, SECRETS_VARIABLE: str(secrets.absolute())}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The usual ones, after the secrets that were handed to this program alone."""
        folder = os.environ.get(SECRETS_VARIABLE)
        handed = () if folder is None else (SecretsSettingsSource(settings_cls, secrets_dir=folder),)
        renamed = RenamedSettingsSource(dotenv_settings, "VIDTR_")
        return (init_settings, *handed, env_settings, dotenv_settings, file_secret_settings, renamed)

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.payload_ttl_s <= self.job_deadline_s:
            msg = (
                f"payload_ttl_s ({self.payload_ttl_s}) must exceed job_deadline_s ({self.job_deadline_s:g}): "
                "a clip must outlive the job that waits for it"
            )
            raise ValueError(msg)
        if self.worker_stall_s <= self.triton_timeout_s:
            msg = (
                f"worker_stall_s ({self.worker_stall_s:g}) must exceed triton_timeout_s ({self.triton_timeout_s:g}): "
                "a worker that waits for Triton is not stuck"
            )
            raise ValueError(msg)
        if self.redis_waitaof_s == 0 and (self.redis_wait_replicas or self.redis_durability == "require"):
            msg = (
                "redis_waitaof_s (0) must exceed 0 with redis_wait_replicas or redis_durability=require: "
                "it is how long a 202 waits for both"
            )
            raise ValueError(msg)
        if self.redis_password_file is not None and RedisUrl.parse(self.redis_url).has_password:
            msg = "redis_password_file excludes a password in redis_url: which of them counts would be a guess"
            raise ValueError(msg)
        if self.webhook_give_up_s > self.tombstone_ttl_s:
            msg = (
                f"webhook_give_up_s ({self.webhook_give_up_s:g}) must not exceed "
                f"tombstone_ttl_s ({self.tombstone_ttl_s}): a webhook tells of a job that can still be asked for"
            )
            raise ValueError(msg)
        return self
