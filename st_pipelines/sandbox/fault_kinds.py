"""Lists the faults and defects that the sandbox can play.

Imports nothing of the sandbox, because the command line reads it for its help.
"""

from __future__ import annotations

from collections.abc import Mapping

FAULT_KINDS: Mapping[str, str] = {
    "500": "500 with an HTML page; 502 and 503 likewise",
    "502": "see 500",
    "503": "see 500",
    "401": "the token is not accepted, in the middle of a run",
    "409": "the service is suspended for maintenance",
    "429": "too many requests, Retry-After in whole seconds",
    "429-fraction": "too many requests, Retry-After 0.25",
    "429-bare": "too many requests, no hint how long to wait",
    "html": "200 with an HTML page",
    "truncated": "200 with JSON that is cut off",
    "not-json": "200 with plain text",
    "wrapped": "200 with an array in the place of an object, and the other way round",
    "no-data": "200 with an object without `data`",
    "data-object": "200 with an object as `data`",
    "reset": "the connection is reset",
    "hang": "headers and half of the body, then nothing",
    "drip": "a body of which a byte comes now and then, and never the end",
    "slow": "a body that drips but completes",
    "gzip-garbage": "says gzip and is not",
    "gzip-cut": "gzip that is cut off",
    "repeated-token": "an export answers with the continuation token it was asked for",
    "endless": "hasMore is true, for ever with probability 1",
    "empty-page": "a page in the middle comes without records",
}
"""What each kind does. Those of a token request have the same names after `token-`."""

TOKEN_PREFIX = "token-"
"""Before the name of a kind: it hits token requests instead of data requests."""

DEFECT_KINDS: Mapping[str, str] = {
    "scope-missing": "a scope is not ticked; which: scope-missing:tn.jpm.jobs:r",
    "scope-surplus": "a scope is ticked that nothing needs, by itself one that writes",
    "scope-not-accepted": "the token names a scope that the admin has not accepted yet",
    "app-not-connected": "the tenant has not connected the app: tokens, but 403 everywhere",
    "app-unknown": "the token endpoint does not find the application",
    "no-grant": "the token endpoint knows the client and gives no token",
    "opaque-token": "tokens tell neither tenant nor scopes",
    "wrong-tenant": "the tenant id that you hold is another's",
    "wrong-app-key": "the app key that you hold is another's; wrong-app-key:404 sets the answer",
    "secret-rotated": "the client secret that you hold was deleted",
    "wrong-clock": "answers are dated 600 s ahead; wrong-clock:-90 sets another difference",
}
"""What may be wrong in the developer portal, by the tenant's admin, or with what you hold."""
