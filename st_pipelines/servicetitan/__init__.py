"""Asks ServiceTitan over HTTP. Imports neither dagster nor duckdb; see `paging.read`."""
