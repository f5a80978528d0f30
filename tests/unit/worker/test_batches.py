from dataclasses import replace

from service.queue.clip_entries import ClipEntry
from service.worker.batch import batches


def entry(number: int, *, model: str = "m", version: str = "1", shape: tuple[int, ...] = (4, 8, 8, 3)) -> ClipEntry:
    return ClipEntry(f"{number}-0", model, version, "job", number, shape, 0.0, 0.0)


def test_a_batch_has_at_most_the_models_batch_size() -> None:
    split = batches([entry(i) for i in range(7)], {("m", "1"): 3})
    assert [len(batch) for batch in split] == [3, 3, 1]


def test_clips_keep_the_order_of_the_queue() -> None:
    split = batches([entry(i) for i in range(5)], {("m", "1"): 2})
    assert [e.clip for batch in split for e in batch] == [0, 1, 2, 3, 4]


def test_models_versions_and_shapes_are_never_mixed() -> None:
    entries = [entry(0), entry(1, model="n"), entry(2, version="2"), entry(3, shape=(8, 8, 8, 3)), entry(4)]
    sizes = {("m", "1"): 8, ("m", "2"): 8, ("n", "1"): 8}
    split = batches(entries, sizes)
    assert sorted(sorted(e.clip for e in batch) for batch in split) == [[0, 4], [1], [2], [3]]


def test_clips_of_a_version_that_is_no_longer_served_go_one_by_one() -> None:
    assert [len(batch) for batch in batches([entry(0), entry(1)], {})] == [1, 1]


def test_clips_that_were_lost_before_go_alone() -> None:
    entries = [entry(0), replace(entry(1), deliveries=2), entry(2)]
    assert sorted(sorted(e.clip for e in batch) for batch in batches(entries, {("m", "1"): 8})) == [[0, 2], [1]]
