"""Paths with the ids of a parent, and records that get them."""

from __future__ import annotations

import msgspec
import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.servicetitan.reading.children import fill_path, insert_members

ID = [(b'"parentId"', b"5")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b'{"id":1}', b'{"parentId":5,"id":1}'),
        (b"{}", b'{"parentId":5}'),
        (b"{ }", b'{"parentId":5}'),
        (b'{ "id" : 1 }', b'{"parentId":5,"id" : 1 }'),
        (b'{"id":1,"parentId":5}', b'{"parentId":5,"id":1}'),
        (b'{"parentId":"5"}', b'{"parentId":5}'),
        (b'{"parentId":null,"id":1}', b'{"parentId":5,"id":1}'),
        (b'{"parentId":6}', b'{"parentId":5,"served_parentId":6}'),
        (b'{"a":{"parentId":6}}', b'{"parentId":5,"a":{"parentId":6}}'),
        (b'{"text":"the \\"parentId\\":6"}', b'{"parentId":5,"text":"the \\"parentId\\":6"}'),
        (b'{"price":1.10,"at":NaN}', b'{"parentId":5,"price":1.10,"at":NaN}'),
    ],
)
def test_a_record_gets_the_id_of_its_parent(record: bytes, expected: bytes) -> None:
    assert bytes(insert_members(msgspec.Raw(record), ID)) == expected


def test_ids_are_quoted_in_a_path() -> None:
    preferences = load_catalog()["crm.contacts_contact_methods_preferences"]
    assert fill_path(preferences, ["a/b", "c?d"]) == (
        "/crm/v2/tenant/{tenant}/contacts/a%2Fb/contact-methods/c%3Fd/preferences"
    )
