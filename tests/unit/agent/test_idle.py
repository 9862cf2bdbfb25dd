"""How long a workspace has been idle, under a clock of our own."""

from infra.workspace.agent.idle import LOOK_S, Activity


class World:
    """A clock and the session's processes; counts the looks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.alive = False
        self.looks = 0

    def clock(self) -> float:
        return self.now

    def others(self) -> bool:
        self.looks += 1
        return self.alive


def _activity() -> tuple[World, Activity]:
    world = World()
    return world, Activity(world.others, clock=world.clock)


def test_it_counts_from_the_start() -> None:
    world, activity = _activity()
    world.now += 5
    assert activity.idle_s() == 5


def test_it_is_zero_while_something_goes_on_and_counts_from_its_end() -> None:
    world, activity = _activity()
    with activity.busy():
        world.now += 50
        with activity.busy():
            world.now += 50
        assert activity.idle_s() == 0
        assert world.looks == 0
        world.now += 10
    world.now += 7
    assert activity.idle_s() == 7


def test_it_is_zero_while_a_process_is_alive_and_counts_from_when_its_end_was_seen() -> None:
    world, activity = _activity()
    with activity.busy():
        pass
    world.alive = True
    assert activity.idle_s() == 0
    world.now += 30
    assert activity.idle_s() == 0
    world.alive = False
    world.now += 30
    assert activity.idle_s() == 0
    world.now += 4
    assert activity.idle_s() == 4


def test_it_looks_no_more_than_once_a_second() -> None:
    world, activity = _activity()
    for _ in range(100):
        activity.idle_s()
    assert world.looks == 1
    world.now += LOOK_S
    for _ in range(100):
        activity.idle_s()
    assert world.looks == 2


def test_what_was_just_started_is_seen_at_once() -> None:
    world, activity = _activity()
    assert activity.idle_s() == 0
    with activity.busy():
        world.alive = True
    world.now += LOOK_S / 10
    assert activity.idle_s() == 0
    assert world.looks == 2
