"""Derived names are legal everywhere, whatever the caller's names are, and lead back to their session."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import names

AT = datetime(2025, 8, 24, 19, 13, 31, tzinfo=UTC)
SOURCE = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}", fullmatch=True)


def test_an_id_looks_like_the_contracts() -> None:
    assert names.session_id("my-project", "developer", AT) == "ws-my-project-developer-1756062811"
    assert names.service_name("ws-a-b-1756062811") == "onmemos-ws-a-b-1756062811"
    assert names.bucket_name("ws-my-project-developer-1756062811") == "onmemos-my-project-developer-1756062811"


@given(SOURCE, SOURCE, st.sampled_from(["", "a1b2"]))
def test_every_derived_name_is_legal(namespace: str, user: str, suffix: str) -> None:
    session = names.session_id(namespace, user, AT, suffix)
    service, bucket = names.service_name(session), names.bucket_name(session)
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?", service)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket)
    assert "google" not in bucket
    assert "g00gle" not in bucket
    assert len(session) <= 63
    assert names.session_of_bucket(bucket) == session
    task = names.task_name(session, "expire", "1_1756062811")
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,500}", task)
    assert names.session_of_task(task) == session


def test_long_names_share_the_room() -> None:
    assert names.session_id("n" * 60, "u" * 60, AT) == f"ws-{'n' * 13}-{'u' * 13}-1756062811"
    assert names.session_id("n" * 60, "me", AT) == f"ws-{'n' * 24}-me-1756062811"
    assert names.session_id("ns", "u" * 60, AT) == f"ws-ns-{'u' * 24}-1756062811"


@pytest.mark.parametrize("name", ["onmemos", "onmemos-", "onmemos-state", "onmemos-assets-2024", "backups", "ws-a-b-1"])
def test_what_is_not_named_by_us_is_not_ours(name: str) -> None:
    assert names.session_of_bucket(name) is None
    assert names.session_of_task(name) is None
