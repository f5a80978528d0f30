"""What may be fetched for a caller. `service.settings.Settings` describes the fields, under the same names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

ANY = "*"


@dataclass(frozen=True)
class SourceConfig:
    """Hosts that may be asked, and what one video may cost."""

    source_hosts: tuple[str, ...]
    source_private_targets: bool
    source_max_bytes: int
    source_max_requests: int
    source_max_redirects: int
    source_timeout_s: float

    def allows(self, host: str) -> bool:
        """Whether this host, or a domain that it belongs to, is listed."""
        name = host.lower().removesuffix(".")
        listed = {entry.lower().removesuffix(".") for entry in self.source_hosts}
        if ANY in listed or name in listed:
            return True
        # The end of an address is no domain.
        return not _is_address(name) and any(name.endswith(f".{entry}") for entry in listed)


@dataclass(frozen=True)
class BucketConfig:
    """Buckets that may be read, and where and as whom."""

    source_buckets: tuple[str, ...]
    source_s3_endpoint: str | None
    source_s3_region: str
    source_s3_credentials_file: Path | None
    source_gs_endpoint: str | None
    source_gs_credentials_file: Path | None
    source_timeout_s: float


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
