"""Watches: what changed since a resourceVersion, line by line, with bookmarks and an end."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from kubernetes.aio import client, watch

from tests.contract.kubernetes.requests import Json, Namespace, a_config_map, a_secret, refused, told, watched
from tests.contract.kubernetes_rig import cluster, emulated

pytestmark = pytest.mark.asyncio(loop_scope="session")


def watching(
    namespace: Namespace, plural: str, within_s: int = 5, /, **query: str
) -> AbstractAsyncContextManager[AsyncIterator[Json]]:
    """The events; a test that waits longer than five seconds fails."""
    return watched(namespace.cluster, namespace.path(plural), within_s, **query)


def seen(event: Json) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"]["name"]


async def test_a_watch_goes_on_where_the_list_was(namespace: Namespace) -> None:
    await namespace.create("secrets", a_secret("old"))
    since = (await namespace.get("secrets"))["metadata"]["resourceVersion"]
    await namespace.create("secrets", a_secret("new"))
    async with watching(namespace, "secrets", resourceVersion=since) as events:
        assert seen(await anext(events)) == ("ADDED", "new")
        told(await namespace.patch("secrets", "new", {"stringData": {"a": "2"}}))
        assert seen(await anext(events)) == ("MODIFIED", "new")
        deleted = told(await namespace.delete("secrets", "old"))
        assert deleted["status"] == "Success"
        event = await anext(events)
        assert seen(event) == ("DELETED", "old")
        assert int(event["object"]["metadata"]["resourceVersion"]) > int(since)


async def test_a_watch_from_nowhere_begins_with_what_there_is(namespace: Namespace) -> None:
    await namespace.create("secrets", a_secret("a"))
    async with watching(namespace, "secrets") as events:
        event = await anext(events)
        assert seen(event) == ("ADDED", "a")
        assert event["object"]["kind"] == "Secret"


async def test_a_selector_makes_changes_into_comings_and_goings(namespace: Namespace) -> None:
    since = (await namespace.get("secrets"))["metadata"]["resourceVersion"]
    async with watching(namespace, "secrets", resourceVersion=since, labelSelector="on=yes") as events:
        await namespace.create("secrets", a_secret("a"))
        told(await namespace.patch("secrets", "a", {"metadata": {"labels": {"on": "yes"}}}))
        assert seen(await anext(events)) == ("ADDED", "a")
        told(await namespace.patch("secrets", "a", {"metadata": {"labels": {"on": "no"}}}))
        assert seen(await anext(events)) == ("DELETED", "a")


async def test_the_initial_state_ends_with_a_bookmark(namespace: Namespace) -> None:
    await namespace.create("secrets", a_secret("a"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with watching(namespace, "secrets", **query) as events:
        assert seen(await anext(events)) == ("ADDED", "a")
        end = await anext(events)
        assert end["type"] == "BOOKMARK"
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert end["object"]["kind"] == "Secret"
    del query["allowWatchBookmarks"]
    async with watching(namespace, "secrets", **query) as events:
        assert seen(await anext(events)) == ("ADDED", "a")
        await namespace.create("secrets", a_secret("b"))
        assert seen(await anext(events)) == ("ADDED", "b")
    del query["sendInitialEvents"]
    answer = await namespace.cluster.http.get(namespace.path("secrets"), params={"watch": "1", **query})
    refused(answer, 422, "Invalid")


async def test_a_watch_ends_in_time_and_with_a_bookmark(namespace: Namespace) -> None:
    made = await namespace.create("secrets", a_secret("a"))
    query = {"allowWatchBookmarks": "true", "resourceVersion": "0"}
    within_s = 1 if namespace.cluster.is_emulated else 5  # a real server sends none in the last two seconds
    async with watching(namespace, "secrets", within_s, **query) as events:
        last = [event async for event in events][-1]
    assert last["type"] == "BOOKMARK"
    newest = (await namespace.get("secrets"))["metadata"]["resourceVersion"]
    told_of = int(last["object"]["metadata"]["resourceVersion"])
    assert int(made["metadata"]["resourceVersion"]) <= told_of <= int(newest)
    if namespace.cluster.is_emulated:  # elsewhere others write, too
        assert told_of == int(newest)


async def test_history_is_told_or_it_is_gone(namespace: Namespace) -> None:
    await namespace.create("secrets", a_secret("a"))
    async with watching(namespace, "secrets", resourceVersion="1") as events:
        event = await anext(events)
    if event["type"] == "ERROR":
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        assert event["object"]["message"].startswith("too old resource version: 1 (")
    else:
        assert seen(event) == ("ADDED", "a")


@emulated("how long its history is, is set here")
async def test_history_that_was_forgotten_is_gone(tmp_path: Path) -> None:
    async with cluster(tmp_path, window=4) as small:
        namespace = Namespace(small, "default")
        for number in range(12):
            await namespace.create("configmaps", a_config_map(f"c{number}"))
        async with watching(namespace, "configmaps", resourceVersion="2") as events:
            error = await anext(events)
        assert error["type"] == "ERROR"
        assert (error["object"]["code"], error["object"]["reason"]) == (410, "Expired")
        assert error["object"]["message"].startswith("too old resource version: 2 (")
        listing = client.CoreV1Api(small.api).list_namespaced_config_map
        stream = watch.Watch().stream(listing, "default", resource_version="2")  # type: ignore[no-untyped-call]
        with pytest.raises(client.ApiException) as told_to_client:
            await anext(stream)
        assert told_to_client.value.status == 410


@emulated("it is restarted")
async def test_a_restart_keeps_objects_and_counts_on(tmp_path: Path) -> None:
    async with cluster(tmp_path) as before:
        made = await Namespace(before, "default").create("configmaps", a_config_map())
        told(await Namespace(before, "default").delete("configmaps", "settings"))
        kept = await Namespace(before, "default").create("configmaps", a_config_map("kept"))
    async with cluster(tmp_path) as after:
        namespace = Namespace(after, "default")
        assert await namespace.get("configmaps", "kept") == kept
        since = kept["metadata"]["resourceVersion"]
        async with watching(namespace, "configmaps", resourceVersion=since) as events:
            new = await namespace.create("configmaps", a_config_map("new"))
            assert seen(await anext(events)) == ("ADDED", "new")
        assert int(new["metadata"]["resourceVersion"]) > int(since) > int(made["metadata"]["resourceVersion"])
        async with watching(namespace, "configmaps", resourceVersion=made["metadata"]["resourceVersion"]) as events:
            assert (await anext(events))["object"]["code"] == 410
