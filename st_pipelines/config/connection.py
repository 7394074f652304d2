"""Builds the connection of an environment, or says why it cannot be built."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from st_pipelines.config.environments import ENVIRONMENTS, HOSTS, EnvironmentName, setting_name
from st_pipelines.config.errors import NotConfigured, SettingsError, WrongHost
from st_pipelines.config.project import EnvironmentConfig, resolve_environment
from st_pipelines.config.settings import EnvironmentSettings, complete, setting_and_source
from st_pipelines.servicetitan.http.model import Connection


def build_connection(config: EnvironmentConfig) -> Connection:
    """Builds what the client needs; asks the secrets managers that are named.

    Raises:
        SettingsError: credentials are missing (the message names all of them), a host is another
            environment's, or a manager refuses.
    """
    environment = config.environment
    settings = complete(environment, config.settings)
    require_complete(config, settings)
    assert settings.client_id is not None
    assert settings.client_secret is not None
    assert settings.app_key is not None
    assert settings.tenant_id is not None
    api_url, auth_url = HOSTS[environment]

    def reload_secrets() -> tuple[SecretStr, ...]:
        return _reload_secrets(config)

    return Connection(
        environment=environment,
        api_url=settings.api_url or api_url,
        auth_url=settings.auth_url or auth_url,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        client_secret_next=settings.client_secret_next,
        secret_names=(
            setting_and_source(environment, settings, "client_secret"),
            setting_and_source(environment, settings, "client_secret_next"),
        ),
        reload_secrets=reload_secrets,
        app_key=settings.app_key,
        tenant_id=settings.tenant_id,
        requests_per_second=settings.requests_per_second,
        page_size=settings.page_size,
        timeout=settings.timeout,
        max_response_mb=settings.max_response_mb,
        external_data_app_guid=settings.external_data_app_guid,
        report_interval_seconds=settings.report_interval_seconds,
        report_wait_seconds=settings.report_wait_seconds,
    )


def require_complete(
    config: EnvironmentConfig, settings: EnvironmentSettings | None = None
) -> None:
    """Checks that a connection can be built, as far as this machine knows.

    A credential that a secrets manager may hold counts as present until the manager was asked.

    Args:
        settings: with what the managers hold, if they were asked.

    Raises:
        SettingsError: credentials are missing (the message names all of them), or a host or the
            credentials belong to another environment.
    """
    environment, settings = config.environment, settings or config.settings
    _refuse_other_hosts(environment, settings)
    urls = zip(("api_url", "auth_url"), HOSTS[environment], strict=True)
    fields = [*settings.missing(), *(f for f, url in urls if not (getattr(settings, f) or url))]
    if fields and not settings.asks_managers:
        missing = [setting_name(environment, field) for field in fields]
        others = settings.gathered.named_sources
        also = f", or in {' or '.join(others)}" if others else ""
        raise NotConfigured(
            f"{environment} is not configured: set {', '.join(missing)} "
            f"in the environment or in {config.variables.dotenv_file.name}{also}"
        )
    named = (settings.api_environment or environment).lower()
    if named != environment:
        raise SettingsError(
            f"{setting_and_source(environment, settings, 'api_environment')} is {named!r}: these "
            f"credentials are not {environment}'s; give each environment its own, see .env.example"
        )


def why_incomplete(environment: EnvironmentName, **overrides: Any) -> str:
    """Returns why no connection can be built now, as far as this machine knows; or an empty text.

    Schedules and sensors call it with every tick, so it sees changes of the configuration.

    Args:
        **overrides: settings that win over all sources.
    """
    try:
        require_complete(resolve_environment(environment, **overrides))
    except SettingsError as error:
        return str(error)
    return ""


def _reload_secrets(config: EnvironmentConfig) -> tuple[SecretStr, ...]:
    """Reads all sources again, for a client secret that was rotated meanwhile."""
    problem: SettingsError
    try:
        again = resolve_environment(config.environment, **config.overrides)
        settings = complete(again.environment, again.settings)
    except SettingsError as error:
        problem = error.with_context("ServiceTitan rejects the configured client secret")
    else:
        return tuple(s for s in (settings.client_secret, settings.client_secret_next) if s)
    raise problem


def _refuse_other_hosts(environment: EnvironmentName, settings: EnvironmentSettings) -> None:
    """Refuses to send the credentials of one environment to the host of another."""
    for other in ENVIRONMENTS:
        if other == environment:
            continue
        for name in ("api_url", "auth_url"):
            host = urlsplit(getattr(settings, name)).hostname
            if host and host in {urlsplit(url).hostname for url in HOSTS[other]}:
                raise WrongHost(
                    f"{setting_name(environment, name)} is the host of {other}",
                    f"Remove it: {environment} has its own, which needs no setting.",
                )
