"""From the settings of an environment to a connection, or to why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from st_pipelines.config.environments import ENVIRONMENTS, EnvironmentName, hosts, setting_name
from st_pipelines.config.errors import NotConfigured, SettingsError, WrongHost
from st_pipelines.config.settings import (
    EnvironmentSettings,
    complete,
    env_file,
    load_settings,
    setting_and_source,
)
from st_pipelines.servicetitan.http.connection import Connection


def connection(environment: EnvironmentName, settings: EnvironmentSettings) -> Connection:
    """What the client needs, complete; asks the secrets managers that are named.

    Raises:
        SettingsError: a credential is missing (it names all that are), a host is the other
            environment's, or a manager refuses.
    """
    settings = complete(environment, settings)
    require_complete(environment, settings)
    assert settings.client_id is not None
    assert settings.client_secret is not None
    assert settings.app_key is not None
    assert settings.tenant_id is not None
    api_url, auth_url = hosts(environment)
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
        reload_secrets=_asking_again(environment, settings._given),
        app_key=settings.app_key,
        tenant_id=settings.tenant_id,
        requests_per_second=settings.requests_per_second,
        page_size=settings.page_size,
        timeout=settings.timeout,
    )


def require_complete(environment: EnvironmentName, settings: EnvironmentSettings) -> None:
    """Asks nobody: what a manager may hold that has not been asked yet counts as there.

    Raises:
        SettingsError: a credential is missing (it names all that are), or a host or the
            credentials are the other environment's.
    """
    _refuse_other_hosts(environment, settings)
    urls = zip(("api_url", "auth_url"), hosts(environment), strict=True)
    fields = [*settings.missing(), *(f for f, url in urls if not (getattr(settings, f) or url))]
    if fields and not settings.asks_managers:
        missing = [setting_name(environment, field) for field in fields]
        others = settings.gathered.asked[3:]  # after arguments, environment and .env
        also = f", or in {' or '.join(others)}" if others else ""
        raise NotConfigured(
            f"{environment} is not configured: set {', '.join(missing)} "
            f"in the environment or in {env_file().name}{also}"
        )
    named = (settings.api_environment or environment).lower()
    if named != environment:
        raise SettingsError(
            f"{setting_and_source(environment, settings, 'api_environment')} is {named!r}: these "
            f"credentials are not {environment}'s; give each environment its own, see .env.example"
        )


def why_incomplete(environment: EnvironmentName) -> str:
    """Why an environment cannot be asked, as far as this machine tells; empty where it can."""
    try:
        require_complete(environment, load_settings(environment))
    except SettingsError as error:
        return str(error)
    return ""


def _asking_again(
    environment: EnvironmentName, given: Mapping[str, Any]
) -> Callable[[], tuple[SecretStr, ...]]:
    """Reads the sources anew, for a secret that was rotated since."""

    def ask() -> tuple[SecretStr, ...]:
        problem: SettingsError
        try:
            again = complete(environment, load_settings(environment, **given))
        except SettingsError as error:
            problem = type(error)(f"ServiceTitan refuses the client secret that was read; {error}")
        else:
            return tuple(s for s in (again.client_secret, again.client_secret_next) if s)
        raise problem

    return ask


def _refuse_other_hosts(environment: EnvironmentName, settings: EnvironmentSettings) -> None:
    """The credentials of one environment must not be sent to the other's host."""
    for other in ENVIRONMENTS:
        if other == environment:
            continue
        for name in ("api_url", "auth_url"):
            host = urlsplit(getattr(settings, name)).hostname
            if host and host in {urlsplit(url).hostname for url in hosts(other)}:
                raise WrongHost(
                    f"{setting_name(environment, name)} is the host of {other}",
                    f"Remove it: {environment} has its own, which needs no setting.",
                )
