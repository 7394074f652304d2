"""Sources of settings: the environment, `.env`, files, and secrets managers.

Start with `resolve`, which asks the sources in order; the first value of a setting wins. `base` has
the interface of a source, `local` those of this machine, `places` the settings that name further
sources. A secrets manager is one module here and one row in `resolve.MANAGERS`. Nothing in this
package imports Dagster, DuckDB, or, before a manager is used, a vendor's library.
"""
