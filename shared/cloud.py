"""What Google's clients say when a call fails, for a person to read."""


def reason(exc: Exception) -> str:
    """The service's own sentence, without the client's repetition of codes and details around it."""
    return str(getattr(exc, "message", None) or exc)
