"""What Google's clients say when a call fails, for a person to read, and what it means when that may pass."""

from shared.errors import ProviderUnavailable


def reason(exc: Exception) -> str:
    """The service's own sentence, without the client's repetition of codes and details around it.

    Of what says nothing, such as a TimeoutError, its name.
    """
    return str(getattr(exc, "message", None) or exc) or repr(exc)


def unavailable(service: str, exc: Exception) -> ProviderUnavailable:
    """The error for a call that can be made again: `service` did not answer, or not in a way that means anything."""
    return ProviderUnavailable(f"{service} did not answer as expected: {reason(exc)}")
