"""Warehouse backends: checking, locking, attaching, committing, publishing.

Start at `base`: the `Store` protocol is all that code outside this package uses. `duckdb_file` is
the one backend so far, with its write queue, its integrity check and its read copy. A new backend
is one module and one line in `base.BACKENDS`. Tables and endpoints are unknown here.
"""
