"""The same on a real cluster of three primaries, each of which has partitions."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from service.queue.partitions import Partition, PerPartition, QueueAddress, close
from tests.fixtures.keyspace import immortal
from tests.fixtures.redis_sets import Cluster
from tests.integration.partitions.conftest import COUNT
from tests.integration.partitions.test_jobs import (
    test_a_cached_result_is_found_until_its_job_is_deleted_and_leaves_nothing,
    test_a_key_whose_cached_job_in_another_partition_was_deleted_is_free,
    test_pages_hold_the_jobs_of_all_partitions_once_newest_first,
    test_two_processes_count_a_caller_together_wherever_its_quota_is,
    test_two_processes_make_one_job_of_a_key_and_it_is_where_the_key_is,
)
from tests.integration.partitions.test_processes import (
    admission,
    receive,
    test_a_dead_letter_is_replayed_in_its_partition,
    test_a_process_with_another_number_of_partitions_is_told_both,
    test_a_waiter_and_a_follower_learn_of_the_end_wherever_the_job_is,
    test_an_upload_is_refused_once_the_whole_installation_is_full,
    test_jobs_expire_in_every_partition,
)

__all__ = [
    "admission",
    "receive",
    "test_a_cached_result_is_found_until_its_job_is_deleted_and_leaves_nothing",
    "test_a_dead_letter_is_replayed_in_its_partition",
    "test_a_key_whose_cached_job_in_another_partition_was_deleted_is_free",
    "test_a_process_with_another_number_of_partitions_is_told_both",
    "test_a_waiter_and_a_follower_learn_of_the_end_wherever_the_job_is",
    "test_an_upload_is_refused_once_the_whole_installation_is_full",
    "test_jobs_expire_in_every_partition",
    "test_pages_hold_the_jobs_of_all_partitions_once_newest_first",
    "test_two_processes_count_a_caller_together_wherever_its_quota_is",
    "test_two_processes_make_one_job_of_a_key_and_it_is_where_the_key_is",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), primaries=3, replicas=0).running() as cluster:
        yield cluster


@pytest.fixture
def address(cluster: Cluster) -> Iterator[QueueAddress]:
    address = QueueAddress(cluster.url, f"test-{uuid4().hex}", COUNT)
    yield address
    for keys in address.key_names():
        owner = cluster.owner(keys.prefix.strip("{}"))
        assert immortal(owner.client, keys) == []


@pytest.fixture
async def partitions(address: QueueAddress) -> AsyncIterator[PerPartition[Partition]]:
    partitions = address.connect("tests")
    yield partitions
    await close(partitions)


@pytest.fixture
async def other(address: QueueAddress) -> AsyncIterator[PerPartition[Partition]]:
    partitions = address.connect("tests")
    yield partitions
    await close(partitions)


def test_the_servers_of_the_cluster_share_the_partitions(cluster: Cluster) -> None:
    address = QueueAddress(cluster.url, "shared", 6)
    owners = Counter(cluster.owner(keys.prefix.strip("{}")).port for keys in address.key_names())
    assert list(owners.values()) == [2, 2, 2]
