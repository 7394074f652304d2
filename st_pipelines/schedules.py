"""When what is run by itself."""

import dagster as dg

from st_pipelines import settings
from st_pipelines.settings import EnvironmentName, EnvironmentSettings


def weekly_reconcile(
    environment: EnvironmentName, of: EnvironmentSettings, job: dg.JobDefinition
) -> dg.ScheduleDefinition:
    """Sundays at 3 in the environment's time zone; skips while that is not configured."""

    @dg.schedule(
        name="weekly_reconcile",
        job=job,
        cron_schedule="0 3 * * 0",
        execution_timezone=of.timezone,
        description="Marks what is gone, and finds changes that moved no time of modification.",
    )
    def weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            settings.require_complete(environment, settings.load_settings(environment))
        except settings.SettingsError as error:
            return dg.SkipReason(str(error))
        return dg.RunRequest()

    return weekly
