"""Parsing pages: the records stay as served, and only the keys are read."""

from __future__ import annotations

import pytest

from st_pipelines.servicetitan.reading.envelope import page_parser


def test_the_records_are_the_bytes_that_were_served(endpoint):
    """Money as 25.1700000000 and times with seven digits must not pass through a float."""
    rows = b'[{"id":1,"cost":25.1700000000,"t":"2026-01-02T05:00:00.8446003Z"}]'
    page = page_parser(endpoint())(b'{"page":1,"hasMore":true,"totalCount":7,"data":' + rows + b"}")
    assert page.records == rows
    assert (page.keys, page.has_more, page.total) == ([1], True, 7)


@pytest.mark.parametrize(
    ("rows", "ascending"),
    [
        (b'[{"id":1},{"id":5}]', True),
        (b'[{"id":5},{"id":1}]', False),
        (b'[{"id":5},{"id":5}]', False),
        (b'[{"id":"a"},{"id":"b"}]', None),
    ],
)
def test_only_rising_integers_are_ascending(endpoint, rows, ascending):
    assert page_parser(endpoint())(b'{"data":' + rows + b"}").ascending is ascending


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"data": {}}',
        b'{"data": [1]}',
        b'{"data": [[1, 2]]}',
        b'{"data": [null]}',
        b'{"data": [{"id": 1}], "hasMore": "yes"}',
        b'{"data": [{"id": 1}',
        b"<html>",
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("key", [("id",), ()])
def test_only_an_object_with_a_list_of_objects_is_accepted(endpoint, body, key):
    with pytest.raises(ValueError, match="not"):
        page_parser(endpoint(key=key))(body)


@pytest.mark.parametrize("data", [b'"data":null,', b""])
def test_no_data_is_not_taken_for_an_empty_list(endpoint, data):
    """An answer without data and with hasMore false marked a whole table as deleted."""
    body = b"{" + data + b'"hasMore":false,"totalCount":0}'
    with pytest.raises(ValueError, match=r"null instead of records|missing required field"):
        page_parser(endpoint())(body)


def test_null_is_empty_where_the_specification_allows_it(endpoint):
    reviews = endpoint(api="marketing_reputation", name="reviews")
    assert page_parser(reviews)(b'{"data":null,"hasMore":false}').count == 0


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"", b'{"data": []}'])
def test_a_bare_array_must_hold_objects(endpoint, body):
    with pytest.raises(ValueError, match="not"):
        page_parser(endpoint(envelope="array"))(body)


@pytest.mark.parametrize(
    ("rows", "keys"),
    [
        (b'[{"id":7,"x":1},{"id":8}]', [7, 8]),
        (b'[ { "id" : 7 , "x":1 } , {"id"\n:\t-8} ]', [7, -8]),
        (b'[{"x":{"id":1},"id":7},{"id":8}]', [7, 8]),
        (b'[{"x":"{\\"id\\":1,","id":7}]', [7]),
        (b'[{"idle":1,"id":7}]', [7]),
        (b'[{"id":7},{"id":9223372036854775807}]', [7, 2**63 - 1]),
    ],
)
def test_an_id_is_found_anywhere_in_a_record(endpoint, rows, keys):
    assert page_parser(endpoint())(b'{"data":' + rows + b"}").keys == keys


@pytest.mark.parametrize("id_", [b"7.5", b'"7"', b"true"])
def test_an_id_that_is_not_an_integer_is_not_taken_for_one(endpoint, id_):
    page = page_parser(endpoint())(b'{"data":[{"id":7},{"id":' + id_ + b"}]}")
    assert page.ascending is None
    assert len(set(page.keys)) == 2


def test_records_that_lack_their_key_are_distinguished_by_their_contents(endpoint):
    page = page_parser(endpoint())(b'{"data":[{"x":1},{"x":2},{"x":2}]}')
    assert page.count == 3
    assert len(set(page.keys)) == 2


def test_records_to_be_exploded_are_distinguished_by_their_contents(endpoint):
    page = page_parser(endpoint(explode="history"))(b'{"data":[{"id":1,"a":1},{"id":1,"a":2}]}')
    assert len(set(page.keys)) == 2


def test_the_error_quotes_no_record(endpoint):
    with pytest.raises(ValueError, match="not the expected") as caught:
        page_parser(endpoint())(b'{"data":[{"id":{"name":"Miller"}}]}')
    assert "Miller" not in str(caught.value)


HALF = rb'{"id":1,"note":"cut off \ud83d","more":["\\ud83d",{"a\udc00":"\ud83d\ude00"}]}'


@pytest.mark.parametrize("first", [HALF, HALF.replace(b'"id":1,', b"")[:-1] + b',"id":1}'])
@pytest.mark.parametrize("envelope", ["page", "array"])
def test_a_page_with_lone_surrogates_is_parsed(endpoint, envelope, first):
    rows = b"[" + first + b', {"id":2,"note":"whole"}]'
    body = b'{"odd":"\\udfff","hasMore":false,"data":' + rows + b"}"
    page = page_parser(endpoint(envelope=envelope))(rows if envelope == "array" else body)
    assert page.keys == [1, 2]
    assert [bytes(row) for row in page.rows] == [first, b'{"id":2,"note":"whole"}']


def test_a_later_page_may_be_bare(endpoint):
    assert page_parser(endpoint(), first=False)(b'{"data":[]}').count == 0
