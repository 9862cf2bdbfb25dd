"""The queue of each step of Cloud Tasks, and how it tries again: said once, for Terraform and for the local stack."""

from collections.abc import Mapping
from dataclasses import dataclass

UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Retries:
    """Cloud Tasks' RetryConfig: the wait doubles `doublings` times from the first to the longest, then grows evenly."""

    attempts: int
    first_s: float
    longest_s: float
    doublings: int = 6


# A session that cannot be provisioned fails by itself after 15 minutes; what must go away, or must not be lost on its
# way to another state, is tried until it has.
STEPS: Mapping[str, Retries] = {
    "provision": Retries(100, 0.2, 10),
    "expire": Retries(UNLIMITED, 0.5, 60),
    "teardown": Retries(UNLIMITED, 0.2, 60),
    "suspend": Retries(UNLIMITED, 0.2, 10),
    "move": Retries(UNLIMITED, 0.2, 10),
}
