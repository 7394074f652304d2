"""What a person does about each trouble that can be told apart: one table for all who tell it.

`errors` says what a program does about a failure; a `Trouble` says it to a person, in the same
words in `st-pipelines check`, in Dagster and in a message. Where ServiceTitan's answer has several
causes, the advice names all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCEPT = (
    "the tenant's admin accepts it in ServiceTitan under Settings > Integrations > "
    "API Application Access"
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One trouble, told apart from the others.

    Attributes:
        code: names it for programs, and in docs/setup.md.
        title: what is wrong, without a capital and a full stop.
        advice: what to do, in sentences.
    """

    code: str
    title: str
    advice: str

    @property
    def sentence(self) -> str:
        """Title and advice."""
        return f"{self.title[:1].upper()}{self.title[1:]}. {self.advice}"


def build_problem(code: str, **facts: str) -> Problem:
    """The trouble with that code.

    Args:
        code: of the table below.
        **facts: whatever its text has places for.

    Raises:
        KeyError: there is no such code, or a fact is missing.
    """
    title, advice = PROBLEMS[code]
    return Problem(code=code, title=title.format(**facts), advice=advice.format(**facts))


_NETWORK = {
    "dns": (
        "the name {host} does not resolve",
        "Check its spelling in the settings API_URL and AUTH_URL, and the DNS of this machine; in "
        "a network where only the proxy resolves names, set HTTPS_PROXY.",
    ),
    "refused": (
        "{host} refuses the connection",
        "Nothing listens there, or a firewall turns it away: check the host in the settings "
        "API_URL and AUTH_URL, and let port 443 through.",
    ),
    "no-connection": (
        "no connection to {host}",
        "A firewall drops it, or this network needs a proxy: let port 443 through, or set "
        "HTTPS_PROXY.",
    ),
    "no-answer": (
        "{host} does not answer in time",
        "It is overloaded, or something in between holds the request back: run it again later, and "
        "look at proxy and firewall if it stays.",
    ),
    "broken-off": (
        "the connection to {host} breaks off",
        "A proxy or firewall may end it: run it again, and look at those if it stays.",
    ),
    "tls-self-signed": (
        "the certificate of {host} is signed by itself",
        "Not ServiceTitan answers but something in its place, such as an intercepting proxy, a "
        "virus scanner or another server: have the host exempted, or set REQUESTS_CA_BUNDLE to a "
        "file with that certificate if you trust it.",
    ),
    "tls-unknown-authority": (
        "the certificate of {host} is from an authority that is not known here",
        "Mostly an intercepting proxy of your company: set REQUESTS_CA_BUNDLE to a file with its "
        "authority's certificate, or have the host exempted.",
    ),
    "tls-other-name": (
        "the certificate of {host} is made out to another name",
        "Check the host in the settings API_URL and AUTH_URL; a sign-in page of the network may "
        "also answer in its place.",
    ),
    "tls-out-of-date": (
        "the certificate of {host} has expired or is not valid yet",
        "Look at the clock of this machine first; if it is right, whoever runs {host} has to "
        "renew the certificate.",
    ),
    "tls": (
        "no TLS with {host}",
        "What listens there speaks none, or in no version that is accepted here: check scheme and "
        "port in the settings API_URL and AUTH_URL, and proxies that break TLS up.",
    ),
    "tls-bundle": (
        "the file with certificate authorities cannot be used",
        "Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE: each names a file of certificates in PEM "
        "form, or is not set.",
    ),
    "proxy-unreachable": (
        "the proxy cannot be reached",
        "Check HTTPS_PROXY and HTTP_PROXY; hosts that need no proxy belong in NO_PROXY.",
    ),
    "proxy-credentials": (
        "the proxy asks for a user and password",
        "Put them into HTTPS_PROXY, as http://user:password@proxy:port, or have this machine let "
        "through without.",
    ),
    "proxy-refuses": (
        "the proxy does not let {host} through",
        "Have the host allowed there: docs/setup.md lists all hosts.",
    ),
    "unusable": (
        "the request could not be made",
        "Candidates: a line break or an odd character in the app key, copied along with it; the "
        "host in the settings API_URL and AUTH_URL; or the address of the proxy in HTTPS_PROXY and "
        "HTTP_PROXY, which is http://proxy:port.",
    ),
    "network": (
        "the request to {host} fails",
        "Check proxy, firewall and the host: the settings API_URL and AUTH_URL of this "
        "environment.",
    ),
}
_TOKEN = {
    "credentials-refused": (
        "the client id or the client secret is refused",
        "ServiceTitan does not say which. Check both for typing errors; a secret that was rotated "
        "or deleted no longer works; and the pair must be that of the environment '{environment}', "
        "for each environment and tenant has its own.",
    ),
    "wrong-environment": (
        "the client id and secret are those of {other}",
        "The host of {other} issues a token for them, that of {environment} does not: set the pair "
        "of {environment}, or name the environment {other}.",
    ),
    "app-unknown": (
        "ServiceTitan does not find the application",
        "Candidates: the app key or client id is of another app or environment, the app was "
        "deleted, or this tenant is not in the app's list of tenants; compare all of them with the "
        "developer portal.",
    ),
    "no-grant": (
        "ServiceTitan knows the client but issues no token",
        "Candidates: the tenant has not connected the app or has disconnected it, or the app has "
        f"no scopes: compare them with the developer portal, and see that {ACCEPT}.",
    ),
    "token-forbidden": (
        "{host} forbids the token request",
        "Candidates: a firewall or proxy that answers in its place, or an app that the tenant has "
        "disconnected.",
    ),
    "no-token-host": (
        "what answers at {host} is not ServiceTitan's token host",
        "Check the setting AUTH_URL; a proxy or a sign-in page of the network may also answer in "
        "its place.",
    ),
}  # fmt: skip
_DATA = {
    "scope-missing": (
        "the token lacks the scope {scope}",
        "Tick the scope {scope} in the app (developer portal); the new version of the app acts "
        f"when {ACCEPT}.",
    ),
    "scope-doubtful": (
        "refused although the token has the scope {scope}",
        f"Candidates: the app's current version waits until {ACCEPT}; the tenant has "
        "disconnected the app; or the tenant does not have this part of ServiceTitan.",
    ),
    "scope-unknown": (
        "permission denied",
        "Tick the scope {scope} in the app (developer portal); the new version of the app acts "
        f"when {ACCEPT}. If every endpoint answers so, the tenant has not connected the app at "
        "all.",
    ),
    "app-not-connected": (
        "every endpoint that was asked is refused",
        "Most likely the tenant has not connected the app: in ServiceTitan, under Settings > "
        "Integrations > API Application Access, its admin connects it or accepts its current "
        "version; if it is not listed there, add the tenant id to the app in the developer portal. "
        "Else the app key is another app's.",
    ),
    "blocked": (
        "a web page forbids the request",
        "Candidates: a proxy or firewall that answers in ServiceTitan's place, so have {host} "
        "allowed there; else permission is missing: the scope {scope}, or the connection of the "
        "app.",
    ),
    "other-tenant": (
        "the token is for another tenant than {tenant}",
        "It was issued for tenant {tenants}: correct TENANT_ID, or take the client id and secret "
        "that were issued for tenant {tenant}.",
    ),
    "app-key-refused": (
        "the app key is refused",
        "Copy it from the app's page in the developer portal: it begins with ak1. and is the same "
        "in every environment.",
    ),
    "token-refused": (
        "a token that was issued a moment ago is not accepted",
        "Candidates: API_URL and AUTH_URL do not belong to the same environment; or APP_KEY, "
        "TENANT_ID and the client id do not belong together.",
    ),
    "not-found": (
        "ServiceTitan does not know the path",
        "On a collection a 404 is a wrong path, tenant id or app key, never 'no rows'. "
        "{known}Candidates: {candidates}.",
    ),
    "rate-limited": (
        "too many requests",
        "Lower REQUESTS_PER_SECOND, or see what else uses this app and tenant: they share one "
        "limit.",
    ),
    "maintenance": (
        "ServiceTitan is suspended for maintenance",
        "Run it again later.",
    ),
    "unavailable": (
        "ServiceTitan is down or overloaded",
        "Run it again later.",
    ),
    "bad-request": (
        "the request is refused as wrong",
        "The parameters do not suit this endpoint; they come from its catalogue entry.",
    ),
    "redirected": (
        "{host} redirects",
        "It redirects to {target}, which is not followed; check the host in the settings.",
    ),
    "web-page": (
        "a web page comes instead of data",
        "A proxy, or a sign-in page of the network, answers in ServiceTitan's place: open {host} "
        "in a browser from this machine, and have the host allowed.",
    ),
}  # fmt: skip
PROBLEMS = _NETWORK | _TOKEN | _DATA
"""Title and advice by code, with places for facts in braces."""
