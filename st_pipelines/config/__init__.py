"""Configuration: environments, credentials, hosts, time zone, warehouse, schedules.

Start with `project.resolve_environment`, which reads everything once for a run, a tick or a
command; `settings` has the settings of an environment, `connection` what the client needs of them.
The names of the settings are servicepytan's. Production reads `SERVICETITAN_*`, integration
`SERVICETITAN_INTEGRATION_*`, the sandbox `SERVICETITAN_SANDBOX_*`; no environment is the default.

Sources, of which the first that has a value wins: arguments, environment variables, `.env` in the
working directory, servicepytan's config file, a folder of files, AWS Secrets Manager, Azure Key
Vault, HashiCorp Vault. Secrets managers are queried only when a connection is needed. This package
imports neither Dagster nor DuckDB, nor anything from `sync`, `defs` or `cli`.
"""
