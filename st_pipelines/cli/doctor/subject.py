"""What is checked: one environment and selection, and what is learnt of it on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import requests

from st_pipelines.catalog.model import Endpoint
from st_pipelines.config.connection import build_connection
from st_pipelines.config.environments import EnvironmentName, setting_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import EnvironmentConfig, resolve_environment
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.servicetitan.http.auth import TokenSource
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.connection import Connection
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.servicetitan.http.token_claims import TokenClaims, read_token_claims
from st_pipelines.servicetitan.http.token_request import Token
from st_pipelines.servicetitan.http.transport import new_http_session

PATIENCE = RetryPolicy(attempts=3)
"""A check is to say what is so now, and soon."""


@dataclass(kw_only=True)
class Subject:
    """One environment, with what its steps find out, each thing once.

    Attributes:
        environment: whose settings.
        endpoints: the selection.
        deep: ask each of them.
        policy: how often and how patiently to ask.
        skew: by how much ServiceTitan's clock is ahead of this one; None until a host answered.
    """

    environment: EnvironmentName
    endpoints: Sequence[Endpoint]
    deep: bool = False
    policy: RetryPolicy = PATIENCE
    skew: timedelta | None = None
    session: requests.Session = field(default_factory=new_http_session)

    @cached_property
    def config(self) -> EnvironmentConfig:
        """Raises SettingsError: `.env` cannot be read."""
        return resolve_environment(self.environment)

    @property
    def settings(self) -> EnvironmentSettings:
        """Raises SettingsError: a value is wrong or a name misspelt."""
        return self.config.settings

    @cached_property
    def connection(self) -> Connection:
        """Raises SettingsError: a credential is missing."""
        return build_connection(self.config)

    @cached_property
    def tokens(self) -> TokenSource:
        """A source of its own, so that a token is asked for whatever this process has."""
        return TokenSource(self.connection)

    @cached_property
    def token(self) -> Token:
        """Raises ServiceTitanError: none is issued."""
        return self.tokens.get_token(self.session, self.policy)

    @cached_property
    def claims(self) -> TokenClaims | None:
        """What the token says; None for an opaque one."""
        return read_token_claims(self.token.value)

    @cached_property
    def client(self) -> Client:
        """For data requests."""
        return Client(self.connection, policy=self.policy, http=self.session, tokens=self.tokens)

    def setting(self, field: str) -> str:
        """The name under which a field is set, such as `SERVICETITAN_CLIENT_ID`."""
        return setting_name(self.environment, field)

    def close(self) -> None:
        """Close its connections."""
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
