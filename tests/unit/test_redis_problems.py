"""What a reply of Redis means, whichever release says it and whether a script was in between."""

import pytest
from redis._parsers.base import BaseParser

from service.queue.redis_problems import is_full, moved_to, not_writable

REPLICA = "the server is a replica"
MOVING = "the keys are being moved to another server of the cluster"
OLDER = "ERR Error running script (call to f_5c): @user_script:1: @user_script: 1: "


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("READONLY You can't write against a read only replica.", REPLICA),
        ("READONLY You can't write against a read only replica. script: 5ca1, on @user_script:1.", REPLICA),
        (
            "ERR Error running script (call to f_5c): @user_script:1: @user_script: 1: -READONLY You can't write",
            REPLICA,
        ),
        ("MOVED 866 127.0.0.1:7001", "another server of the cluster has these keys"),
        ("ASK 866 127.0.0.1:7001", MOVING),
        (
            "TRYAGAIN Multiple keys request during rehashing",
            MOVING,
        ),
        (
            "ERR Script attempted to access a non local key in a cluster node script: 5ca1, on @user_script:1.",
            MOVING,
        ),
        ("CLUSTERDOWN Hash slot not served", "the cluster is down"),
        ("MASTERDOWN Link with MASTER is down", "the server is a replica that has lost its primary"),
        ("LOADING Redis is loading the dataset in memory", "the server is loading its data"),
        ("NOREPLICAS Not enough good replicas to write.", "the server has fewer replicas than it requires"),
        ("UNBLOCKED force unblock from blocking operation", "the server has become a replica"),
        ("ERR unknown command 'FOO', with args beginning with: READONLY", None),
        ("WRONGTYPE Operation against a key", None),
        ("OOM command not allowed when used memory > 'maxmemory'.", None),
    ],
)
def test_a_reply_of_a_server_that_takes_no_write_is_known(reply: str, reason: str | None) -> None:
    assert not_writable(BaseParser.parse_error(reply)) == reason


def test_a_server_of_a_cluster_says_where_the_keys_are() -> None:
    assert moved_to(BaseParser.parse_error("MOVED 866 127.0.0.1:7001")) == ("127.0.0.1", 7001)
    assert moved_to(BaseParser.parse_error("MOVED 866 :7001")) is None
    assert moved_to(BaseParser.parse_error("ASK 866 127.0.0.1:7001")) is None


def test_a_full_server_is_known_inside_a_script_too() -> None:
    assert is_full(BaseParser.parse_error("OOM command not allowed when used memory > 'maxmemory'."))
    assert is_full(BaseParser.parse_error("ERR Error running script: @user_script:1: -OOM command not allowed"))
    assert not is_full(BaseParser.parse_error("ERR no"))
