"""Writes the stack's passwords, once: random, into volumes that only their readers mount.

/secrets/redis/users.acl         Redis' users; the hash of the password only
/secrets/client/vidtr_redis_url  the setting redis_url of the api, password included
/secrets/worker/vidtr_redis_url  the same for the worker, and
/secrets/worker/vidtr_triton_key what Triton asks it for
/secrets/triton/vidtr_triton_key the same, for Triton
/secrets/grafana/admin_password  Grafana's first password of `admin`
"""

import hashlib
import re
import secrets
from pathlib import Path

ROOT = Path("/secrets")
# The commands that the service uses, on its own keys and channels; of the server itself only its memory figures.
# tests/integration run under this list: a command that is new to the service fails there until it stands here.
# WAITAOF, which servers before 7.2 would refuse by name, is among those of `@connection`.
COMMANDS = (
    "get mget set incrby del unlink exists expire pexpire ttl pttl rename "
    "hget hmget hgetall hset hdel hexists hincrby hlen "
    "zadd zcard zscore zrange zrangebyscore zrevrangebylex zrem zremrangebyscore zremrangebylex "
    "rpush blpop "
    "xadd xack xclaim xdel xgroup xinfo xlen xpending xrange xreadgroup xrevrange "
    "publish subscribe unsubscribe multi exec discard evalsha script|exists script|load time info client|setname"
)
# The names in braces are those of several partitions.
NAMES = "vidtr:* {vidtr:* {vidtr}:*"
PATTERNS = [f"{kind}{name}" for kind in "~&" for name in NAMES.split()]
RULES = " ".join([*PATTERNS, "-@all", "+@connection", "-@dangerous", *(f"+{c}" for c in COMMANDS.split())])


def write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.chmod(0o444)
    partial.rename(path)


def users(digest: str) -> str:
    """Redis' users. `health` may ping and nothing else."""
    return f"user default off\nuser health on nopass -@all +ping\nuser vidtr on #{digest} {RULES}\n"


def main() -> None:
    access_list = ROOT / "redis" / "users.acl"
    if access_list.exists():
        # A release may need commands that the one before did not.
        written = access_list.read_text()
        found = re.search(r"^user vidtr on #([0-9a-f]{64}) ", written, re.MULTILINE)
        if found is not None and written != users(found[1]):
            write(access_list, users(found[1]))
    else:
        password = secrets.token_urlsafe(32)
        digest = hashlib.sha256(password.encode()).hexdigest()
        write(ROOT / "client" / "vidtr_redis_url", f"redis://vidtr:{password}@redis:6379/0")
        # Last: it is the sign that all is written.
        write(access_list, users(digest))
    for_worker = ROOT / "worker" / "vidtr_redis_url"
    if not for_worker.exists():
        write(for_worker, (ROOT / "client" / "vidtr_redis_url").read_text())
    for_triton = ROOT / "triton" / "vidtr_triton_key"
    if not for_triton.exists():
        key = secrets.token_hex(32)
        write(ROOT / "worker" / "vidtr_triton_key", key)
        write(for_triton, key)
    if not (ROOT / "grafana" / "admin_password").exists():
        write(ROOT / "grafana" / "admin_password", secrets.token_urlsafe(16))


if __name__ == "__main__":
    main()
