"""Builds one asset for each kind of files that `ST_FILES` names.

An asset has no partitions: which files are due is decided from the warehouse, so each run goes on
where the last one ended. It comes after the assets of its source tables.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from st_pipelines.catalog.file_kinds import SCHEMA, FileKind
from st_pipelines.config.errors import SettingsError
from st_pipelines.defs.assets import full_previews, sync_context, warehouse_resource
from st_pipelines.defs.environment import EnvironmentDefs
from st_pipelines.defs.failures import as_dagster_failure
from st_pipelines.defs.metadata import OWNERS
from st_pipelines.windows import parse_days

if TYPE_CHECKING:
    from st_pipelines.sync.files import FilesReport

CHECK = "downloads"


class FilesConfig(dg.Config):
    """Run configuration: which of the files that are due to store; all up to a limit if empty."""

    limit: int | None = Field(
        default=None, ge=1, description="The most files, instead of ST_FILES_PER_RUN."
    )
    first_day: str | None = Field(
        default=None, description="Only files of rows from this local day on, YYYY-MM-DD."
    )
    last_day: str | None = Field(
        default=None, description="Only files of rows up to this local day, YYYY-MM-DD."
    )


def build_file_assets(env: EnvironmentDefs) -> list[dg.AssetsDefinition]:
    """Returns the assets of the environment's kinds of files."""
    return [_build_asset(env, kind) for kind in env.file_kinds]


def _build_asset(env: EnvironmentDefs, kind: FileKind) -> dg.AssetsDefinition:
    key = env.file_keys[kind.name]

    @dg.asset(
        key=key,
        deps=[env.asset_keys[s.table] for s in kind.sources if s.table in env.asset_keys],
        description=(
            f"The {kind.title} that rows of {', '.join(s.table for s in kind.sources)} point to, "
            f"from `{kind.path}`. The newest come first, at most `ST_FILES_PER_RUN` in a run. "
            f"`{kind.table}` lists them."
        ),
        metadata={
            "dagster/table_name": f"{env.environment}.{kind.table}",
            "operation": f"GET {kind.path}",
            "scope": kind.scope,
        },
        group_name=SCHEMA,
        owners=OWNERS,
        kinds={"servicetitan", "file"},
        check_specs=[
            dg.AssetCheckSpec(
                CHECK, asset=key, description="Every file that was due could be downloaded."
            )
        ],
        required_resource_keys={env.servicetitan_key, env.warehouse_key},
    )
    def store_files(context: dg.AssetExecutionContext, config: FilesConfig) -> dg.MaterializeResult:
        from st_pipelines.sync.files import load_files

        with as_dagster_failure(context.retry_number) as errors:
            errors.full_previews = full_previews(context, env)
            try:
                days = parse_days(config.first_day, config.last_day)
            except ValueError as error:
                raise SettingsError(str(error)) from None
            report = load_files(
                sync_context(context, env),
                kind,
                warehouse_resource(context, env).config.files,
                limit=config.limit,
                days=days,
                announce=context.log.info,
            )
            for line in _warnings(report):
                context.log.warning(line)
            warehouse_resource(context, env).publish_if_due(context.log)
            return dg.MaterializeResult(
                metadata=report_metadata(report), check_results=[_judge(report, key)]
            )

    return store_files


def report_metadata(report: "FilesReport") -> dict[str, Any]:
    """Returns the metadata of a materialization: counts, and nothing of the files themselves."""
    return {
        "due": report.due,
        "stored": report.stored,
        "missing": report.missing,
        "empty": report.empty,
        "too_large": report.too_large,
        "failed": report.failed,
        "left": report.left,
        "not_served": report.elsewhere,
        "files": report.total,
        "files_bytes": report.total_bytes,
        "rows_in_table": report.rows,
        "dagster/row_count": report.rows,
        "requests": report.requests,
        "bytes": report.received,
        "seconds": round(report.seconds, 3),
    }


def _warnings(report: "FilesReport") -> Iterator[str]:
    if report.missing_tables:
        yield f"not loaded yet: {', '.join(report.missing_tables)}"
    if report.too_large:
        yield f"{report.too_large} files are larger than ST_FILES_MAX_MB and were not stored"


def _judge(report: "FilesReport", key: dg.AssetKey) -> dg.AssetCheckResult:
    problems = "; ".join(report.problems)
    text = f"{report.failed} files could not be downloaded: {problems}. A later run tries again."
    return dg.AssetCheckResult(
        check_name=CHECK,
        asset_key=key,
        passed=not report.failed,
        severity=dg.AssetCheckSeverity.WARN,
        description=text if report.failed else None,
        metadata={"failed": report.failed},
    )
