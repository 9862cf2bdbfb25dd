"""What is new of an output that is shown again and again, and when it is long by its newest part alone."""

HALF = "\ufffd"  # what half a character reads as, at either end of a part
ANCHOR_CHARS = 256  # of a part's beginning: where they stand in the part before, that may go on as this one
MAX_PLACES = 1000  # that are tried: of output that repeats itself


class Tail:
    """Is told each part that was seen, in their order, and gives what those before had not."""

    def __init__(self) -> None:
        self._seen = ""

    def new(self, part: str, *, cut: bool, ended: bool) -> str:
        """`cut`: the beginning of the output is missing. `ended`: no more comes, so half a character stays one."""
        part = part.lstrip(HALF) if cut else part
        part = part if ended else part.rstrip(HALF)
        before, self._seen = self._seen, part
        if part.startswith(before):
            return part[len(before) :]
        return part[_overlap(before, part) :] if cut else part  # a new attempt begins anew


def _overlap(before: str, part: str) -> int:
    """How many characters at the beginning of `part` are the end of `before`, as many as fit.

    Fewer than the anchor's may be chance: to show them twice is better than not at all.
    """
    anchor, place = part[:ANCHOR_CHARS], -1
    for _ in range(MAX_PLACES):
        place = before.find(anchor, place + 1)
        if place < 0:
            break
        if part.startswith(before[place:]):
            return len(before) - place
    return 0
