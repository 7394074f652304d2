"""The job of a command that is run by hand, from the settings of an environment."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager

from st_pipelines.config import connection as connecting
from st_pipelines.config import project
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.config.settings import load_settings
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.sync.sync import SyncContext


@contextmanager
def command_job(
    environment: EnvironmentName, command: str, *, history: Collection[str] = ()
) -> Iterator[SyncContext]:
    """A job, and its connections for as long as the context lasts.

    Args:
        environment: its settings say from where and where to.
        command: begins the run id.
        history: tables of which every version of a row is kept.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    of = load_settings(environment)
    with closing(Client(connecting.connection(environment, of))) as client:
        yield SyncContext(
            client=client,
            warehouse=project.warehouse(environment),
            timezone=of.timezone,
            run_id=f"{command}-{uuid.uuid4().hex[:8]}",
            history=history,
        )
