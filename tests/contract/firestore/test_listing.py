"""Listing: pages of documents, parents that are no documents, collections."""

import pytest
from google.cloud import firestore

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_listing_names_documents_that_only_have_children(client: firestore.AsyncClient) -> None:
    for path in ("l/a", "l/b/s/x", "l/c", "l/c/s/x", "other/z"):
        await client.document(path).set({"n": 1})
    for page_size in (1, 2, 10):
        found = [reference.id async for reference in client.collection("l").list_documents(page_size=page_size)]
        assert found == ["a", "b", "c"]


async def test_a_page_has_an_order_and_a_mask(client: firestore.AsyncClient) -> None:
    for name, n in (("a", 1), ("b", 3), ("c", 2), ("d", 2)):
        await client.document(f"l/{name}").set({"n": n})
    pager = await client._firestore_api.list_documents(
        request={
            "parent": f"{client._database_string}/documents",
            "collection_id": "l",
            "order_by": "n desc",
            "mask": {"field_paths": ["absent"]},
        }
    )
    found = [(document.name[-1], dict(document.fields)) async for document in pager]
    assert found == [("b", {}), ("d", {}), ("c", {}), ("a", {})]


async def test_collections_are_listed_with_those_of_missing_documents(client: firestore.AsyncClient) -> None:
    for path in ("b/x", "a/x/inner/y", "c/x", "c/x/one/y", "c/x/two/y"):
        await client.document(path).set({"n": 1})
    assert [collection.id async for collection in client.collections()] == ["a", "b", "c"]
    assert [collection.id async for collection in client.document("c/x").collections()] == ["one", "two"]
    await client.document("b/x").delete()
    assert [collection.id async for collection in client.collections()] == ["a", "c"]
