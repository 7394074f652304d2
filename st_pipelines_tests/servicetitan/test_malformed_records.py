"""Text that is not JSON inside one record keeps no other record from being read."""

from __future__ import annotations

import json

import msgspec
import pytest

from st_pipelines import json_text
from st_pipelines.servicetitan.reading.envelope import page_parser
from st_pipelines_tests.warehouse.value_spellings import BYTES, MALFORMED, REPEATED, SPELLINGS

DEEP = b"[" * 1_000_000 + b"]" * 1_000_000
ODD = [*(text.encode() for text in (*MALFORMED, *REPEATED)), *BYTES[:3], DEEP]
GOOD = b'{"id":2,"name":"whole"}'


def body_of(*rows: bytes) -> bytes:
    total = len(rows)
    return b'{"page":1,"hasMore":false,"totalCount":%d,"data":[%b],"x":1}' % (
        total,
        b",".join(rows),
    )


@pytest.mark.parametrize("envelope", ["page", "array"])
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd[:30]))
def test_an_odd_value_leaves_all_records_as_served(endpoint, envelope, odd):
    """One NaN in one record kept a whole table out of reach, after six requests."""
    for row in (b'{"id":1,"a":%b}' % odd, b'{"a":%b ,"id":1}' % odd):
        rows = [row, GOOD]
        body = b" [%b ,\n%b]" % tuple(rows) if envelope == "array" else body_of(*rows)
        page = page_parser(endpoint(envelope=envelope))(body)
        assert page.keys == [1, 2]
        assert page.ascending is True
        assert [bytes(one) for one in page.rows] == rows


@pytest.mark.parametrize("odd", [b"NaN", b"", b"1e400", b"1" + b"0" * 5000, b"-", b"1 2", b"null"])
def test_a_record_whose_key_no_column_holds_is_distinguished_by_its_content(endpoint, odd):
    rows = [b'{"id":%b,"n":%d}' % (odd, number) for number in (1, 2)]
    page = page_parser(endpoint())(body_of(*rows, GOOD))
    assert len(set(page.keys)) == 3
    assert page.ascending is None
    assert [bytes(one) for one in page.rows] == [*rows, GOOD]


def test_records_that_differ_only_in_what_nobody_can_read_are_two(endpoint):
    rows = [b'{"id":NaN}', b'{"id":Infinity}']
    assert len(set(page_parser(endpoint())(body_of(*rows)).keys)) == 2


def test_the_first_of_two_ids_counts(endpoint):
    assert page_parser(endpoint())(body_of(b'{"id":1,"id":9}', GOOD)).keys == [1, 2]


@pytest.mark.parametrize("row", [b'{"id":1,"a":NaN}', b'{"id":1,"a":"x\ty"}', GOOD])
def test_a_body_that_breaks_off_anywhere_is_refused(endpoint, row):
    """Truncation is retried: taken for an odd record, it would lose the records behind it."""
    body = body_of(b'{"id":1,"a":NaN}', row)
    for end in range(len(body)):
        with pytest.raises(ValueError):  # noqa: PT011  the messages differ
            page_parser(endpoint())(body[:end])


@pytest.mark.parametrize(
    "rows",
    [
        b'{"id":1,"n":"5" pipe"},{"id":2,"n":"6" pipe"}',
        b'{"id":1,"n":"a"b"c"}',
        b'{"id":1,"n":"a" "b":2}',
        b'{"id":1,"n":[}',
        b'{"id":1]',
        b'{"id":1}}',
        b'{"id":1} {"id":2}',
        b'{"id":1},,{"id":2}',
        b'{"id":1},',
        b"NaN",
        b'{"id":1,"a":NaN},"x"',
        b"[NaN]",
    ],
)
def test_records_that_cannot_be_told_apart_are_refused(endpoint, rows):
    """A quotation mark that nobody escaped would hide the next record inside a text."""
    with pytest.raises(ValueError):  # noqa: PT011  the messages differ
        page_parser(endpoint())(b'{"hasMore":false,"data":[' + rows + b"]}")


@pytest.mark.parametrize("rows", [b'[{"id":2}]', b"null", b"[]", b'[{"id":2,"a":NaN}]'])
def test_a_body_with_two_lists_is_refused(endpoint, rows):
    """The decoder takes the last one, and the first would be lost without a trace."""
    many = b",".join(b'{"id":%d}' % number for number in range(100))
    body = b'{"hasMore":false,"data":[' + many + b'],"data":' + rows + b"}"
    with pytest.raises(ValueError, match="data twice"):
        page_parser(endpoint())(body)


@pytest.mark.parametrize(
    "members",
    [
        b'"hasMore":true,"hasMore":false',
        b'"totalCount":9,"hasMore":false,"totalCount":1',
        b'"hasMore":true,"continueFrom":"a","continueFrom":"b"',
    ],
)
@pytest.mark.parametrize("row", [b'{"id":1}', b'{"id":1,"a":NaN}'])
def test_an_envelope_that_contradicts_itself_is_refused(endpoint, members, row):
    """The decoder takes the last member, and the list would end before its end."""
    with pytest.raises(ValueError, match="twice"):
        page_parser(endpoint())(b"{" + members + b',"data":[' + row + b"]}")


def test_records_with_members_of_the_envelopes_names_are_no_contradiction(endpoint):
    body = b'{"hasMore":true,"data":[{"id":1,"hasMore":1},{"id":2,"hasMore":1,"totalCount":2}]}'
    assert page_parser(endpoint())(body).keys == [1, 2]


@pytest.mark.parametrize("total", [b'"Infinity"', b'"-inf"', b'"nan"', b"1e999"])
def test_a_total_that_is_no_number_is_refused(endpoint, total):
    with pytest.raises(ValueError, match=r"(?i)number"):
        page_parser(endpoint())(b'{"hasMore":false,"totalCount":' + total + b',"data":[]}')


@pytest.mark.parametrize("member", [b'"hasMore":NaN', b'"hasMore":fals', b'"totalCount":Infinity'])
def test_an_envelope_is_never_repaired(endpoint, member):
    with pytest.raises(ValueError, match="not the expected object"):
        page_parser(endpoint())(b"{" + member + b',"data":[{"id":1}]}')


@pytest.mark.parametrize("spelling", [*SPELLINGS, DEEP], ids=lambda text: repr(text[:20]))
def test_what_is_repaired_is_json_and_valid_json_stays_the_same(spelling):
    text = b'{"id":7,"a":%b,"b":[1]}' % spelling
    repaired = json_text.repair(text)
    read = msgspec.json.decode(repaired, type=dict[str, msgspec.Raw])
    assert (bytes(read["id"]), bytes(read["b"])) == (b"7", b"[1]")
    try:
        valid = json.loads(text.decode(), parse_constant=int)
    except (ValueError, RecursionError):
        return
    if not json_text.is_too_deep(text) and json_text.replace_lone_surrogates(text) is text:
        assert json.loads(repaired) == valid
