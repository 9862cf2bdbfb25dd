"""Help and completion answer at once: nothing is imported that they do not need."""

import subprocess
import sys

import pytest

import sdk.python

SLOW = {"httpx", "tenacity", "websockets", "rich", "asyncio"}


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["completion", "zsh"]])
def test_nothing_slow_is_imported(words: list[str]) -> None:
    program = (
        "import sys, atexit; sys.argv[0] = 'onmemos'; "
        f"atexit.register(lambda: print(sorted({SLOW!r} & set(sys.modules)), file=sys.stderr)); "
        "from sdk.python.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("name", sdk.python.__all__)
def test_all_that_the_package_offers_is_there(name: str) -> None:
    assert name in dir(sdk.python)
    assert getattr(sdk.python, name) is not None


def test_what_it_does_not_offer_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = sdk.python.Nothing  # type: ignore[attr-defined]
