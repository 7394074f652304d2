"""`st-pipelines catalog adopt`: the settings that it needs, and what it prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from st_pipelines.catalog.registry import packaged_catalog
from st_pipelines.config import project
from st_pipelines.config.environments import environment_name
from st_pipelines.warehouse.adopt.adopt import Adoption, adopt
from st_pipelines.warehouse.adopt.plan import Finding
from st_pipelines.warehouse.columns import table_type


def run(
    environment: str, select: Sequence[str], *, widen: bool, dry_run: bool
) -> Iterator[RenderableType]:
    """Adopts, and tells what came of it.

    Raises:
        SettingsError: there is no such environment.
        WarehouseError, ValueError: as `adopt` says.
    """
    file = project.additions_file()
    done = adopt(
        project.warehouse(environment_name(environment)), packaged_catalog(), file,
        select=select, widen=widen, dry_run=dry_run,
    )  # fmt: skip
    yield from _told(done, file, dry_run)


def _told(done: Adoption, file: Path, dry_run: bool) -> Iterator[RenderableType]:
    adopted = [finding for finding in done.findings if finding.type is not None]
    left = [finding for finding in done.findings if finding.type is None]
    if not done.findings:
        yield "Nothing to adopt: no table keeps anything in _extra."
    if adopted:
        yield _table("would be adopted" if dry_run else "adopted", "type", adopted)
    if left:
        yield _table("stay in _extra", "why", left)
    for entry in done.superfluous:
        yield escape(f"{file} has {entry}, which the package knows by now: remove it there.")
    if dry_run:
        yield "Nothing was changed."
    elif adopted:
        yield escape(
            f"{done.rows:,} rows were written, {file} names the fields. "
            "Reload the code locations of a running Dagster, so that it loads with them too."
        )


def _table(title: str, heading: str, findings: list[Finding]) -> Table:
    table = Table(title=f"{len(findings)} {title}", title_justify="left")
    for name in ("table", "path", heading, "rows", "example"):
        table.add_column(name, overflow="fold", justify="right" if name == "rows" else "left")
    for finding in findings:
        what = table_type(finding.type) if finding.type else finding.reason
        cells = (finding.table, finding.path, what, f"{finding.rows:,}", finding.example)
        table.add_row(*map(escape, cells))
    return table
