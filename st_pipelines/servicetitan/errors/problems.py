"""Describes each known problem to a person: what is wrong, and what to do about it.

`errors` tells a program what to do about a failure; a `Problem` tells a person, in the same words
in `st-pipelines check`, in Dagster and in a message. Where a response of ServiceTitan can have
several causes, the advice names all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCEPT = (
    "the tenant's admin accepts it in ServiceTitan under Settings > Integrations > "
    "API Application Access"
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A known problem, told apart from the others.

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
    """Build the problem with that code, with facts for the placeholders of its text.

    Raises:
        KeyError: the code is unknown, or a fact is missing.
    """
    title, advice = PROBLEMS[code]
    return Problem(code=code, title=title.format(**facts), advice=advice.format(**facts))


_NETWORK = {
    "dns": (
        "the host name {host} does not resolve",
        "Check the spelling in the settings API_URL and AUTH_URL, and this machine's DNS. If only "
        "your proxy resolves names, set HTTPS_PROXY.",
    ),
    "refused": (
        "{host} refused the connection",
        "Nothing is listening there, or a firewall rejects the connection. Check the host in the "
        "settings API_URL and AUTH_URL, and allow port 443.",
    ),
    "no-connection": (
        "could not connect to {host}",
        "A firewall drops the connection, or this network requires a proxy. Allow port 443, or set "
        "HTTPS_PROXY.",
    ),
    "no-answer": (
        "{host} did not answer in time",
        "It is overloaded, or something in between holds the request back. Try again later. If the "
        "problem persists, check your proxy and firewall.",
    ),
    "broken-off": (
        "the connection to {host} was cut off",
        "A proxy or firewall may have closed it. Try again. If the problem persists, check both.",
    ),
    "undecodable": (
        "the body of the response of {host} is not compressed as its header says",
        "A proxy may have changed it. Try again. If the problem persists, have the host exempted.",
    ),
    "tls-self-signed": (
        "the certificate of {host} is self-signed",
        "Something other than ServiceTitan is answering, such as an intercepting proxy, a virus "
        "scanner or another server. Have the host exempted from interception. If you trust that "
        "certificate, set REQUESTS_CA_BUNDLE to a file that contains it.",
    ),
    "tls-unknown-authority": (
        "the certificate of {host} was issued by an unknown authority",
        "The cause is usually your company's intercepting proxy. Set REQUESTS_CA_BUNDLE to a file "
        "with the certificate of its authority, or have the host exempted from interception.",
    ),
    "tls-other-name": (
        "the certificate of {host} was issued for another name",
        "Check the host in the settings API_URL and AUTH_URL. A sign-in page of your network may "
        "also be answering in its place.",
    ),
    "tls-out-of-date": (
        "the certificate of {host} has expired or is not valid yet",
        "Check this machine's clock first. If it is right, the operator of {host} must renew the "
        "certificate.",
    ),
    "tls": (
        "the TLS connection to {host} failed",
        "The server there does not speak TLS, or no version that is accepted here. Check the "
        "scheme and port in the settings API_URL and AUTH_URL, and any proxy that intercepts TLS.",
    ),
    "tls-bundle": (
        "the file of certificate authorities cannot be used",
        "Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE. Each must name a file of certificates in PEM "
        "format, or be unset.",
    ),
    "proxy-unreachable": (
        "the proxy cannot be reached",
        "Check HTTPS_PROXY and HTTP_PROXY. Hosts that need no proxy belong in NO_PROXY.",
    ),
    "proxy-credentials": (
        "the proxy requires a user name and password",
        "Put them into HTTPS_PROXY, as http://user:password@proxy:port, or have this machine "
        "allowed through without them.",
    ),
    "proxy-refuses": (
        "the proxy does not allow {host}",
        "Have the host allowed there. docs/setup.md lists all hosts.",
    ),
    "unusable": (
        "the request could not be made",
        "Possible causes: a line break or an unusual character that was copied along with the app "
        "key; the host in the settings API_URL and AUTH_URL; or the proxy address in HTTPS_PROXY "
        "and HTTP_PROXY, which must look like http://proxy:port.",
    ),
    "network": (
        "the request to {host} failed",
        "Check the proxy, the firewall, and the host in this environment's settings API_URL and "
        "AUTH_URL.",
    ),
}
_TOKEN = {
    "credentials-refused": (
        "the client id or the client secret was refused",
        "ServiceTitan does not say which. Check both for typing errors. A secret that was rotated "
        "or deleted no longer works. The pair must belong to the environment '{environment}', as "
        "each environment and tenant has its own.",
    ),
    "wrong-environment": (
        "the client id and secret belong to {other}",
        "The host of {other} issues a token for them, the host of {environment} does not. Set the "
        "pair of {environment}, or use the environment {other}.",
    ),
    "app-unknown": (
        "ServiceTitan cannot find the application",
        "Possible causes: the app key or client id belongs to another app or environment; the app "
        "was deleted; or this tenant is not in the app's list of tenants. Compare all of them with "
        "the developer portal.",
    ),
    "no-grant": (
        "ServiceTitan knows the client but issues no token",
        "Possible causes: the tenant has not connected the app, or has disconnected it; or the app "
        f"has no scopes. Compare them with the developer portal, and make sure that {ACCEPT}.",
    ),
    "token-forbidden": (
        "{host} forbids the token request",
        "Possible causes: a firewall or proxy is answering in its place; or the tenant has "
        "disconnected the app.",
    ),
    "no-token-host": (
        "the server at {host} is not ServiceTitan's token host",
        "Check the setting AUTH_URL. A proxy or a sign-in page of your network may also be "
        "answering in its place.",
    ),
}
_DATA = {
    "scope-missing": (
        "the token lacks the scope {scope}",
        "Tick the scope {scope} in the app (developer portal). The new version of the app takes "
        f"effect when {ACCEPT}.",
    ),
    "scope-doubtful": (
        "access was refused although the token has the scope {scope}",
        f"Possible causes: the app's current version does not take effect until {ACCEPT}; the "
        "tenant has disconnected the app; or the tenant does not have this part of ServiceTitan.",
    ),
    "scope-unknown": (
        "permission denied",
        "Tick the scope {scope} in the app (developer portal). The new version of the app takes "
        f"effect when {ACCEPT}. If every endpoint answers this way, the tenant has not connected "
        "the app at all.",
    ),
    "app-not-connected": (
        "every endpoint that was tried refused access",
        "Most likely the tenant has not connected the app. In ServiceTitan, under Settings > "
        "Integrations > API Application Access, the tenant's admin must connect it or accept its "
        "current version. If the app is not listed there, add the tenant id to the app in the "
        "developer portal. Otherwise the app key belongs to another app.",
    ),
    "blocked": (
        "a web page forbids the request",
        "Possible causes: a proxy or firewall is answering in ServiceTitan's place, so have {host} "
        "allowed there; or permission is missing: the scope {scope}, or the connection of the app.",
    ),
    "other-tenant": (
        "the token is for another tenant than {tenant}",
        "It was issued for tenant {tenants}. Correct TENANT_ID, or use the client id and secret "
        "that were issued for tenant {tenant}.",
    ),
    "app-key-refused": (
        "the app key was refused",
        "Copy it from the app's page in the developer portal. It begins with ak1. and is the same "
        "in every environment.",
    ),
    "token-refused": (
        "a token that was just issued was refused",
        "Possible causes: API_URL and AUTH_URL do not belong to the same environment; or APP_KEY, "
        "TENANT_ID and the client id do not belong together.",
    ),
    "not-found": (
        "ServiceTitan does not know the path",
        "On a collection, a 404 means a wrong path, tenant id or app key, never 'no rows'. "
        "{known}Possible causes: {candidates}.",
    ),
    "endpoint-removed": (
        "ServiceTitan no longer serves {table}",
        "Its documents no longer have it either. The table keeps its rows. Leave {table} out of "
        "the selection, the setting SELECT. If loads of other tables end with 404 too, the app key "
        "or the tenant id is wrong instead.",
    ),
    "rate-limited": (
        "too many requests",
        "Lower REQUESTS_PER_SECOND, or find out what else uses this app and tenant, as they share "
        "one limit.",
    ),
    "quota-used-up": (
        "the quota of calls is used up",
        "It is replenished {until}; run it again after that. It is a limit, not a missing "
        "permission. Find out what else uses this app, or ask ServiceTitan for a larger quota.",
    ),
    "locked": (
        "ServiceTitan has locked what was requested",
        "Try again later.",
    ),
    "misdirected": (
        "the request reached a server that does not serve {host}",
        "Try again later. If the problem persists, check the proxy and the host in the settings.",
    ),
    "too-early": (
        "{host} did not want to process the request yet",
        "Try again later.",
    ),
    "headers-too-large": (
        "{host} finds the headers of the request too large",
        "Check APP_KEY and the client secret: one may hold more than was to be copied. A proxy may "
        "also add headers.",
    ),
    "request-too-large": (
        "{host} finds the request too large",
        "A proxy or firewall in between may allow only short URLs. Have the host exempted.",
    ),
    "gone": (
        "ServiceTitan no longer serves the path",
        "Update st_pipelines. If the problem persists, leave the table out with the setting "
        "SELECT, and report it.",
    ),
    "legal": (
        "access is denied for legal reasons",
        "Ask ServiceTitan's support, or the operator of your proxy.",
    ),
    "unsupported": (
        "{host} does not support the request",
        "A proxy or another server may be answering in ServiceTitan's place. Check the host in the "
        "settings API_URL and AUTH_URL.",
    ),
    "network-login": (
        "this network requires a sign-in before it lets requests through",
        "Sign in to the network, in a browser on this machine.",
    ),
    "conflict": (
        "the request conflicts with something else in ServiceTitan",
        "Try again later. If the problem persists, report it.",
    ),
    "response-too-large": (
        "a response is larger than MAX_RESPONSE_MB, which is {limit}",
        "Lower PAGE_SIZE, or raise MAX_RESPONSE_MB if this machine has the memory. If smaller "
        "pages do not help, something other than ServiceTitan may be answering.",
    ),
    "maintenance": (
        "ServiceTitan is down for maintenance",
        "Try again later.",
    ),
    "unavailable": (
        "ServiceTitan is down or overloaded",
        "Try again later.",
    ),
    "bad-request": (
        "ServiceTitan rejected the request as invalid",
        "The parameters do not fit this endpoint. They come from its catalog entry.",
    ),
    "odd-status": (
        "{host} answered with the status {status}, which nothing documents for ServiceTitan",
        "A proxy or firewall may be answering in ServiceTitan's place. Try again later. If the "
        "problem persists, check both, and the host in the settings.",
    ),
    "redirected": (
        "{host} redirected the request",
        "The redirect to {target} was not followed. Check the host in the settings.",
    ),
    "web-page": (
        "a web page came instead of data",
        "A proxy, or a sign-in page of your network, is answering in ServiceTitan's place. Open "
        "{host} in a browser from this machine, and have the host allowed.",
    ),
}
PROBLEMS = _NETWORK | _TOKEN | _DATA
"""Title and advice by code, with placeholders for facts."""
