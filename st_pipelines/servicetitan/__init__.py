"""Reads ServiceTitan over HTTP, from credentials to complete lists of records.

`http` sends requests, `reading` turns pages into complete readings, and `errors` names everything
that can go wrong; imports point from `reading` to `http` to `errors`. Start at `reading.read`. The
package must import neither duckdb nor dagster, nor anything of st_pipelines above the catalog.
"""
