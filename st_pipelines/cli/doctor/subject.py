"""The subject of a check: one environment and selection, and what its steps learn about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import requests

from st_pipelines.catalog.file_kinds import FileKind
from st_pipelines.catalog.model import Endpoint
from st_pipelines.config.connection import build_connection
from st_pipelines.config.environments import EnvironmentName, setting_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import EnvironmentConfig, resolve_environment
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.servicetitan.http.auth import TokenSource
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import Connection, TokenClaims
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.servicetitan.http.tokens import Token, read_token_claims
from st_pipelines.servicetitan.http.transport import new_http_session

CHECK_POLICY = RetryPolicy(attempts=3)
"""Fewer retries than a load: a check reports the present state, and soon."""


SKEW_ERROR = timedelta(seconds=0.5)
"""The `Date` of a response is cut to a second, so `skew` may be wrong by this much either way."""


@dataclass(kw_only=True)
class Subject:
    """One environment, and what the steps find out about it, each fact only once.

    Attributes:
        endpoints: the selection.
        deep: also request a record from each of them.
        skew: how far ServiceTitan's clock is ahead of this one, within `SKEW_ERROR`; None until a
            host has answered.
    """

    environment: EnvironmentName
    endpoints: Sequence[Endpoint]
    deep: bool = False
    policy: RetryPolicy = CHECK_POLICY
    skew: timedelta | None = None
    session: requests.Session = field(default_factory=new_http_session)

    @cached_property
    def config(self) -> EnvironmentConfig:
        """The resolved configuration. Raises SettingsError: `.env` cannot be read."""
        return resolve_environment(self.environment)

    @property
    def settings(self) -> EnvironmentSettings:
        """The settings. Raises SettingsError: a value is wrong or a name misspelled."""
        return self.config.settings

    @property
    def file_kinds(self) -> tuple[FileKind, ...]:
        """The kinds of files of the selection; none if `ST_FILES` is wrong, see `settings`."""
        try:
            return self.config.available_file_kinds(self.endpoints)
        except SettingsError:
            return ()

    @cached_property
    def connection(self) -> Connection:
        """Raises SettingsError: a credential is missing."""
        return build_connection(self.config)

    @cached_property
    def tokens(self) -> TokenSource:
        """A source of its own, so that a token is requested even if this process has one."""
        return TokenSource(self.connection)

    @cached_property
    def token(self) -> Token:
        """Raises ServiceTitanError: no token is issued."""
        return self.tokens.get_token(self.session, self.policy)

    @cached_property
    def claims(self) -> TokenClaims | None:
        """The claims of the token; None if it is opaque."""
        return read_token_claims(self.token.value)

    @cached_property
    def client(self) -> Client:
        """The client for data requests."""
        return Client(self.connection, policy=self.policy, http=self.session, tokens=self.tokens)

    def setting(self, field: str) -> str:
        """Returns the name of a field's setting, such as `SERVICETITAN_CLIENT_ID`."""
        return setting_name(self.environment, field)

    def close(self) -> None:
        """Closes the connections."""
        self.session.close()


def select_endpoints(environment: EnvironmentName, patterns: Sequence[str]) -> list[Endpoint]:
    """Selects endpoints of an environment. Selects all if its own selection cannot be read.

    The step `settings` reports why it cannot.

    Raises:
        ValueError: a pattern matches no table.
    """
    config = resolve_environment(environment)
    try:
        return config.select_endpoints(patterns)
    except SettingsError:
        return list(config.catalog)
