"""What Dagster loads: one file per Dagster noun, such as assets, checks, jobs and schedules.

Start reading at `environment`: it defines EnvironmentDefs, from which all the others are built, in
`st_pipelines.definitions`. These modules describe and decide; they load records by `sync`, and
import it when a run needs it, so that definitions load without DuckDB and requests. Nothing here
imports `definitions`, `component` or `cli`.
"""
