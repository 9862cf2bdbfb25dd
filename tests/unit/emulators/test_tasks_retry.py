"""The backoff arithmetic of Cloud Tasks, and its token bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.emulators.tasks.bucket import TokenBucket
from infra.emulators.tasks.retry import RetryPolicy

SECOND_US = 1_000_000


def test_the_published_example_comes_out_as_published() -> None:
    policy = RetryPolicy(min_backoff_s=10, max_backoff_s=300, max_doublings=3)
    assert [policy.backoff_s(attempt) for attempt in range(1, 10)] == [10, 20, 40, 80, 160, 240, 300, 300, 300]


def test_without_doublings_the_interval_grows_by_the_minimum() -> None:
    policy = RetryPolicy(min_backoff_s=2, max_backoff_s=7, max_doublings=0)
    assert [policy.backoff_s(attempt) for attempt in range(1, 6)] == [2, 4, 6, 7, 7]


def test_the_defaults_double_from_a_tenth_of_a_second_up_to_an_hour() -> None:
    policy = RetryPolicy()
    assert [policy.backoff_s(attempt) for attempt in (1, 2, 3, 10)] == [0.1, 0.2, 0.4, 51.2]
    assert policy.backoff_s(17) == 3600
    assert policy.backoff_s(100) == 3600


def test_no_backoff_means_at_once_for_ever() -> None:
    policy = RetryPolicy(min_backoff_s=0, max_backoff_s=0)
    assert policy.backoff_s(1) == policy.backoff_s(1000) == 0


@given(
    st.integers(1, 10_000), st.floats(0, 100, allow_subnormal=False), st.floats(0, 10_000), st.integers(0, 2**31 - 1)
)
def test_the_interval_never_shrinks_and_never_passes_the_maximum(
    attempt: int, least: float, most: float, doublings: int
) -> None:
    policy = RetryPolicy(min_backoff_s=least, max_backoff_s=max(least, most), max_doublings=doublings)
    first, second = policy.backoff_s(attempt), policy.backoff_s(attempt + 1)
    assert least <= first <= second <= policy.max_backoff_s


@pytest.mark.parametrize(
    ("attempts_limit", "duration_s", "attempts", "since_first_s", "exhausted"),
    [
        (3, 0, 2, 1e9, False),
        (3, 0, 3, 0, True),
        (3, 60, 3, 59, False),
        (3, 60, 2, 61, False),
        (3, 60, 3, 60, True),
        (-1, 0, 10**6, 1e9, False),
        (-1, 60, 1, 59, False),
        (-1, 60, 1, 60, True),
        (1, 0, 1, 0, True),
    ],
)
def test_retries_end_only_when_every_limit_that_is_set_is_met(
    attempts_limit: int, duration_s: float, attempts: int, since_first_s: float, exhausted: bool
) -> None:
    policy = RetryPolicy(max_attempts=attempts_limit, max_retry_duration_s=duration_s)
    assert policy.exhausted(attempts, since_first_s) is exhausted


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate_per_s=4, burst=3, now_us=0)
    assert [bucket.take(0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(0) == SECOND_US // 4
    assert bucket.take(SECOND_US // 8) == SECOND_US // 8
    assert bucket.take(SECOND_US // 4) == 0
    assert bucket.take(SECOND_US // 4) > 0


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(rate_per_s=100, burst=2, now_us=0)
    assert [bucket.take(3600 * SECOND_US) for _ in range(3)][:2] == [0, 0]
    assert bucket.take(3600 * SECOND_US) > 0


def test_a_token_given_back_can_be_taken_again() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=1, now_us=0)
    assert bucket.take(0) == 0
    bucket.give_back()
    assert bucket.take(0) == 0


def test_a_clock_that_is_set_back_empties_no_bucket() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=2, now_us=100 * SECOND_US)
    assert bucket.take(0) == 0
    assert bucket.take(0) == 0
    assert bucket.take(0) == SECOND_US


@given(st.floats(0.01, 500), st.integers(1, 100))
def test_whoever_waits_as_long_as_told_gets_a_token(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst, 0)
    now_us = 0
    for _ in range(burst + 3):
        wait_us = bucket.take(now_us)
        if wait_us:
            now_us += wait_us
            assert bucket.take(now_us) == 0
