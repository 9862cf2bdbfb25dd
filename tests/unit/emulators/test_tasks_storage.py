"""What the tasks' store promises to the worker: whose turn it is, and what a name may still be used for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.emulators.tasks.admission import Queue
from infra.emulators.tasks.storage import Failure, NameBlocked, NoQueue, StoredTask, TaskStore

LOCATION = "projects/p/locations/l"
QUEUE = f"{LOCATION}/queues/q"
TASK = StoredTask(f"{QUEUE}/tasks/t", QUEUE, b"message", schedule_us=100)


def opened(folder: Path) -> TaskStore:
    return TaskStore(folder / "tasks.sqlite", task_tombstone_us=50, queue_tombstone_us=500)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    store = opened(tmp_path)
    store.create_queue(Queue(name=QUEUE), 0)
    yield store
    store.close()


def failure(at_us: int) -> Failure:
    return Failure(at_us, responded=True, executed=False, previous_response=500, code=13, message="INTERNAL(13)")


def test_an_attempt_begins_only_for_the_time_that_the_task_is_due(store: TaskStore) -> None:
    store.create_task(TASK, 0)
    assert store.begin_attempt(TASK.name, 99, 200) is None
    begun = store.begin_attempt(TASK.name, 100, 200)
    assert begun is not None
    assert (begun.dispatch_count, begun.first_dispatch_us, begun.attempt_schedule_us) == (1, 200, 100)


def test_what_is_in_flight_begins_again_only_by_hand(store: TaskStore) -> None:
    store.create_task(TASK, 0)
    store.begin_attempt(TASK.name, 100, 200)
    assert store.begin_attempt(TASK.name, 100, 201) is None
    by_hand = store.begin_attempt(TASK.name, None, 202)
    assert by_hand is not None
    assert (by_hand.dispatch_count, by_hand.in_flight, by_hand.first_dispatch_us) == (2, 2, 200)


def test_a_failure_moves_the_task_and_frees_it(store: TaskStore) -> None:
    store.create_task(TASK, 0)
    store.begin_attempt(TASK.name, 100, 200)
    assert store.fail_attempt(TASK.name, failure(300), schedule_us=400)
    assert store.begin_attempt(TASK.name, 100, 400) is None
    again = store.begin_attempt(TASK.name, 400, 400)
    assert again is not None
    assert (again.dispatch_count, again.response_count, again.execution_count, again.previous_response) == (
        2,
        1,
        0,
        500,
    )


def test_a_task_that_is_gone_neither_begins_nor_fails_nor_ends(store: TaskStore) -> None:
    store.create_task(TASK, 0)
    assert store.end_task(TASK.name, 10)
    assert store.begin_attempt(TASK.name, None, 20) is None
    assert not store.fail_attempt(TASK.name, failure(30), schedule_us=400)
    assert not store.end_task(TASK.name, 40)
    assert store.task(TASK.name) is None


def test_a_name_is_free_again_when_its_tombstone_ends(store: TaskStore) -> None:
    store.create_task(TASK, 0)
    store.end_task(TASK.name, 10)
    with pytest.raises(NameBlocked):
        store.create_task(TASK, 59)
    store.create_task(TASK, 60)


def test_a_second_end_of_the_same_name_counts_from_then(store: TaskStore) -> None:
    store.create_task(TASK, 0)
    store.end_task(TASK.name, 10)
    store.create_task(TASK, 60)
    store.end_task(TASK.name, 70)
    assert store.blocked(TASK.name, 119)
    assert not store.blocked(TASK.name, 120)


def test_attempts_of_a_process_that_died_count_but_are_no_longer_in_flight(tmp_path: Path, store: TaskStore) -> None:
    store.create_task(TASK, 0)
    store.begin_attempt(TASK.name, 100, 200)
    successor = opened(tmp_path)
    try:
        assert successor.schedule() == [(QUEUE, 100, TASK.name)]
        begun = successor.begin_attempt(TASK.name, 100, 300)
        assert begun is not None
        assert (begun.dispatch_count, begun.in_flight) == (2, 1)
    finally:
        successor.close()


def test_a_change_that_is_refused_leaves_the_queue_as_it_was(store: TaskStore) -> None:
    def refuse(queue: object) -> object:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.change_queue(QUEUE, refuse, 0)
    assert store.queue(QUEUE) == Queue(name=QUEUE)
    with pytest.raises(NoQueue):
        store.change_queue(f"{QUEUE}-other", refuse, 0)


def test_queues_of_a_location_that_begins_alike_are_not_listed(store: TaskStore) -> None:
    store.create_queue(Queue(name=f"{LOCATION}2/queues/q"), 0)
    assert [queue.name for queue in store.queues(LOCATION)] == [QUEUE]
    assert len(store.queues()) == 2
