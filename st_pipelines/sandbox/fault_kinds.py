"""Lists the faults and defects that the sandbox can simulate.

It imports no other module, so the command line can show its help without loading the server.
"""

from __future__ import annotations

from collections.abc import Mapping

FAULT_KINDS: Mapping[str, str] = {
    "500": "500 with an HTML page; 502 and 503 likewise",
    "502": "see 500",
    "503": "see 500",
    "401": "the token is rejected in the middle of a run",
    "409": "the service is suspended for maintenance",
    "429": "too many requests, Retry-After in whole seconds",
    "429-fraction": "too many requests, Retry-After 0.25",
    "429-bare": "too many requests, without Retry-After",
    "html": "200 with an HTML page",
    "truncated": "200 with truncated JSON",
    "not-json": "200 with plain text",
    "wrapped": "200 with an array instead of an object, and vice versa",
    "no-data": "200 with an object that lacks `data`",
    "data-object": "200 with an object as `data`",
    "reset": "the connection is reset",
    "hang": "headers and half of the body, then nothing",
    "drip": "a body that arrives a byte at a time and never ends",
    "slow": "a body that arrives slowly but completely",
    "gzip-garbage": "a body that is declared as gzip but is not",
    "gzip-cut": "truncated gzip",
    "repeated-token": "an export returns the request's continuation token",
    "endless": "hasMore is true, even on the last page; forever with probability 1",
    "empty-page": "a page other than the last has no records",
    "204": "204 without a body",
    "423": "locked; 425 likewise",
    "425": "too early, see 423",
    "quota": "403, out of call volume quota, with the time until it is replenished",
    "429-beyond": "too many requests, Retry-After beyond the calendar",
    "encoding": "a body with a Content-Encoding that nobody asked for",
    "redirect": "302 to another host",
}
"""What each fault does. Faults of token requests have the same names after `token-`."""

FALSE_KINDS: Mapping[str, str] = {
    "empty-list": "a list that says it is complete and has no records",
    "short-list": "a list of one page that says it is complete and lacks every second record",
    "short-lookup": "a lookup by ids that looks at the first ten only",
    "stale-token": "an export answers a continuation token with neither records nor a token",
    "sort-refused": "400 for a request with `sort`",
    "nan": "the last record of a page has NaN as a member",
    "raw-control": "the last record of a page has a raw control character in a text",
    "twice": "the last record of a page has a member with a value twice",
    "deep": "the last record of a page has 3,000 arrays within each other",
    "null-key": "the last record of a page has null as its id",
}
"""Responses that look right and are not. They are set like faults."""

TOKEN_PREFIX = "token-"
"""Prefix of faults that affect token requests instead of data requests."""

DEFECT_KINDS: Mapping[str, str] = {
    "scope-missing": "a scope is not ticked; scope-missing:tn.jpm.jobs:r names it",
    "scope-surplus": "an unneeded scope is ticked; by default one that allows writing",
    "scope-not-accepted": "the token contains a scope that the admin has not accepted yet",
    "app-not-connected": "the tenant has not connected the app: tokens work, requests get a 403",
    "app-unknown": "the token endpoint does not find the application",
    "no-grant": "the token endpoint knows the client but issues no token",
    "opaque-token": "tokens are not JWTs: they show neither tenant nor scopes",
    "wrong-tenant": "your tenant id belongs to another tenant",
    "wrong-app-key": "your app key belongs to another app; wrong-app-key:404 sets the status",
    "secret-rotated": "your client secret was deleted and another one is valid",
    "wrong-clock": "responses are dated 600 s ahead; wrong-clock:-90 sets another offset",
}
"""What can be wrong in the developer portal, in the tenant, or in your settings."""
