"""Describes assets to Dagster: the spec of an endpoint's asset, and the metadata of each load.

A host project overrides `ServiceTitanTranslator.get_asset_spec` to fit the assets into its own
catalog. How an asset loads, its partitions and its checks are not translated; see `assets` and
`checks`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import DATA
from st_pipelines.defs.privacy import display_drift, make_inert, preview_table
from st_pipelines.sync.explain import describe_clock
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.warehouse.columns import EXTRA, columns_of

if TYPE_CHECKING:
    from st_pipelines.sync.context import LoadReport
    from st_pipelines.warehouse.tables.identity import ZoneChange

WINDOW_END = "window_end"
"""Metadata key of the end of the loaded window, which schedules and sensors rely on."""

PARENTS_REMAINING = "parents_remaining"
"""Metadata key of the parents whose children the next load has to read."""

CLOCK = "clock"
"""Metadata key of how wrong this machine's clock is; left out where it is right."""

WARN_AFTER = timedelta(hours=30)
FAIL_AFTER = timedelta(hours=54)

FRESHNESS = dg.FreshnessPolicy.time_window(warn_window=WARN_AFTER, fail_window=FAIL_AFTER)
"""For daily loads: a late load warns, a second missed one fails. It costs no event of a run."""

OWNERS = ("team:data",)

_OWN_COLUMN_DESCRIPTIONS = {
    "_tenant_id": "ServiceTitan's id of the tenant",
    "_partition_date": "local day of the cursor, or of the load",
    "_loaded_at": "time of the load that wrote this version, UTC",
    "_run_id": "Dagster run that wrote this version",
    "_deleted_at": "time at which a complete read no longer had the row, UTC",
    "_read_sequence": "number of the load that last saw or marked the row, see _st.loads",
    EXTRA: "values that fit no column, by path",
}


@dataclass(frozen=True, kw_only=True)
class EndpointTranslatorData:
    """What a translator describes: one endpoint in one environment.

    Attributes:
        key_prefix: components that the host puts in front of every asset key.
    """

    environment: str
    endpoint: Endpoint
    key_prefix: tuple[str, ...] = ()


class ServiceTitanTranslator:
    """Turns an endpoint into an asset spec. Override `get_asset_spec` to change what it says.

    ```python
    class Translator(ServiceTitanTranslator):
        def get_asset_spec(self, data):
            spec = super().get_asset_spec(data)
            return spec.replace_attributes(owners=["team:finance"])
    ```

    Jobs, schedules, sensors and checks use the keys of these specs, so a changed key is honored
    everywhere.
    """

    def get_asset_spec(self, data: EndpointTranslatorData) -> dg.AssetSpec:
        """Returns the spec of an endpoint's asset, without partitions, which are not translated."""
        endpoint = data.endpoint
        return dg.AssetSpec(
            asset_key(data.environment, endpoint, data.key_prefix),
            group_name=endpoint.api,
            kinds={"servicetitan", "duckdb"},
            owners=OWNERS,
            description=description(endpoint),
            metadata=definition_metadata(data.environment, endpoint),
            freshness_policy=_freshness_policy(endpoint),
        )


def _freshness_policy(endpoint: Endpoint) -> dg.FreshnessPolicy | None:
    """A report with a schedule of its own may be loaded once a month, or by hand."""
    has_own_schedule = endpoint.report is not None and endpoint.report.schedule is not None
    return None if has_own_schedule else FRESHNESS


def asset_key(environment: str, endpoint: Endpoint, prefix: tuple[str, ...] = ()) -> dg.AssetKey:
    """Returns `[*prefix, environment, api, endpoint]`: environments must not share keys."""
    return dg.AssetKey([*prefix, environment, endpoint.api, endpoint.name])


def definition_metadata(environment: str, endpoint: Endpoint) -> dict[str, Any]:
    """Returns what a definition shows: columns, table, operation, scope, line in the catalog.

    The table's name begins with the database, which DuckDB names after the file. Without it,
    Dagster would take the tables of two environments for one.
    """
    facts: dict[str, Any] = {
        "dagster/table_name": f"{environment}.{endpoint.table}",
        "operation": f"{'POST' if endpoint.report else 'GET'} {endpoint.path}",
        "scope": endpoint.scope,
        "kind": endpoint.kind,
        "key": ", ".join(endpoint.key) or "(the whole record)",
    }
    if endpoint.report:  # its columns come with its first load
        return facts | {"category": endpoint.report.category, "report": str(endpoint.report.report)}
    facts |= {
        "dagster/column_schema": _column_schema(endpoint),
        "dagster/code_references": _code_reference(endpoint),
    }
    if endpoint.parent:
        facts["parent"] = endpoint.parent.table
    if endpoint.export:
        facts["export"] = f"GET {endpoint.export.path}"
    if endpoint.cursor:
        facts["cursor"] = endpoint.cursor
    return facts


def description(endpoint: Endpoint) -> str:
    """Returns what the asset is and how it is read."""
    how = strategy_for(endpoint).description
    if report := endpoint.report:
        source = f"the report {report.report!r} in the category {report.category!r}"
        return f"`{endpoint.table}` from {source}. {how}"
    return f"`{endpoint.table}` from `{endpoint.path}`. {how}"


def report_metadata(report: LoadReport, *, full_previews: bool = False) -> dict[str, Any]:
    """Returns the metadata of a materialization or observation, whatever its partitions.

    Args:
        full_previews: also shows values that may be customers' data; see `privacy`.
    """
    counts = report.loaded.counts
    facts: dict[str, Any] = {
        "rows_read": report.loaded.rows_read,
        "rows_inserted": counts.inserted,
        "rows_updated": counts.updated,
        "rows_unchanged": counts.unchanged,
        "rows_deleted": counts.deleted,
        "rows_in_table": report.loaded.table_rows,
        "requests": report.read.requests,
        "bytes": report.read.bytes,
        "seconds": round(report.seconds, 3),
    }
    if not report.endpoint.partitioned:
        facts["dagster/row_count"] = report.loaded.table_rows
    if report.source_total is not None:
        facts["rows_at_servicetitan"] = report.source_total
    if report.parents:
        facts["parents_read"] = report.parents.read
        facts["parents_not_found"] = report.parents.not_found
        facts[PARENTS_REMAINING] = report.parents.remaining
    if report.window:
        start = report.window.start.isoformat() if report.window.start else "the beginning"
        facts["window"] = f"{start} to {report.window.end.isoformat()}"
        facts[WINDOW_END] = dg.MetadataValue.timestamp(report.window.end)
    if report.read.readings > 1:
        facts["readings"] = report.read.readings
    if report.loaded.zone_change:
        facts["time_zone"] = describe_zone_change(report.loaded.zone_change)
    if wrong_clock := describe_clock(report.clock_offset):
        facts[CLOCK] = wrong_clock
    if report.notices:
        facts["credentials"] = "\n".join(map(make_inert, report.notices))
    facts |= report.facts
    if report.column_changes:
        facts["column_changes"] = "\n".join(map(make_inert, report.column_changes))
    if report.endpoint.report:
        facts["dagster/column_schema"] = _column_schema(report.endpoint)
    if report.drift.counts:
        facts["drift"] = dg.MetadataValue.json(_drift(report, full_previews))
    if report.loaded.preview:
        preview = preview_table(report.endpoint, report.loaded.preview, full=full_previews)
        facts["preview"] = dg.MetadataValue.md(preview)
    return facts


def describe_zone_change(change: ZoneChange) -> str:
    """Returns what another time zone changed, in a sentence."""
    return (
        f"the time zone is {change.timezone} and was {change.former or 'another one'}: "
        f"{change.rows:,} rows of all tables have another day now"
    )


def _drift(report: LoadReport, full: bool) -> dict[str, Any]:
    shown = display_drift(report.drift, full=full)
    return {
        path: {"records": count, "example": shown.examples.get(path)}
        for path, count in shown.counts.most_common(50)
    }


def _column_schema(endpoint: Endpoint) -> dg.TableSchema:
    descriptions: Mapping[str, str] = _OWN_COLUMN_DESCRIPTIONS
    keys = set(endpoint.key)
    served_names = {field.column: field.name for field in endpoint.row_fields}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=name,
                type=type_,
                description=descriptions.get(name),
                constraints=dg.TableColumnConstraints(nullable=served_names.get(name) not in keys),
            )
            for name, type_ in columns_of(endpoint).items()
        ]
    )


def _code_reference(endpoint: Endpoint) -> dg.CodeReferencesMetadataValue:
    file = DATA / f"{endpoint.api}.json"
    line = _lines(file).get(endpoint.name, 1)
    reference = dg.LocalFileCodeReference(
        file_path=str(file), line_number=line, label=f"{endpoint.table} in the catalog"
    )
    return dg.CodeReferencesMetadataValue(code_references=[reference])


@functools.cache
def _lines(file: Path) -> dict[str, int]:
    """Returns the line of each endpoint's entry in a file of the catalog."""
    numbers: dict[str, int] = {}
    if file.exists():
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if line.startswith(' "') and line.endswith("{"):
                numbers.setdefault(line.split('"')[1], number)
    return numbers
