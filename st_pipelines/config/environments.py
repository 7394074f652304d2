"""The environments: names, prefixes of their settings, ServiceTitan's hosts.

Also lists the settings of the project as a whole, which `project` reads.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from st_pipelines.config.errors import SettingsError

EnvironmentName: TypeAlias = Literal["production", "integration", "sandbox"]
ENVIRONMENTS: tuple[EnvironmentName, ...] = get_args(EnvironmentName)
PREFIXES: dict[EnvironmentName, str] = {
    "production": "SERVICETITAN_",
    "integration": "SERVICETITAN_INTEGRATION_",
    "sandbox": "SERVICETITAN_SANDBOX_",
}
PROJECT_PREFIX = "ST_"
PROJECT_SETTINGS = (
    "ST_ALERT_WEBHOOK",
    "ST_CAPACITY_DAYS_AHEAD",
    "ST_CAPACITY_DAYS_BACK",
    "ST_CATALOG",
    "ST_ENDPOINTS",
    "ST_FILES",
    "ST_FILES_CONCURRENCY",
    "ST_FILES_MAX_MB",
    "ST_FILES_PER_RUN",
    "ST_FILES_URL",
    "ST_FILE_MODE",
    "ST_FULL_PREVIEWS",
    "ST_HISTORY",
    "ST_MAX_CHILD_REQUESTS",
    "ST_PUBLISH_SECONDS",
    "ST_REPORTS",
    "ST_UI_URL",
    "ST_WAREHOUSE_DIR",
    *(f"ST_{environment.upper()}_WAREHOUSE" for environment in ENVIRONMENTS),
)
HOSTS: dict[EnvironmentName, tuple[str, str]] = {
    "production": ("https://api.servicetitan.io", "https://auth.servicetitan.io"),
    "integration": (
        "https://api-integration.servicetitan.io",
        "https://auth-integration.servicetitan.io",
    ),
    "sandbox": ("", ""),
}
"""ServiceTitan's API and auth URLs; the sandbox has none."""


def environment_name(text: str) -> EnvironmentName:
    """Returns the text as the name of an environment. Raises SettingsError if it is not one."""
    if text not in PREFIXES:
        raise SettingsError(f"unknown environment {text!r}: name one of {', '.join(ENVIRONMENTS)}")
    return text  # pyright: ignore[reportReturnType]


def setting_name(environment: EnvironmentName, field: str) -> str:
    """Returns the name under which a field is set, such as `SERVICETITAN_CLIENT_ID`."""
    return PREFIXES[environment] + field.upper()
