"""Everything that comes in from outside: environments, credentials, hosts, time zone, warehouse.

The names are those servicepytan's users already have. Production reads `SERVICETITAN_*`,
integration `SERVICETITAN_INTEGRATION_*`, the sandbox `SERVICETITAN_SANDBOX_*`. Of the sources the
first wins: arguments, environment variables, `.env` in the working directory, servicepytan's config
file, a folder of files, AWS Secrets Manager, Azure Key Vault, HashiCorp Vault. The managers are
asked when a connection is needed, not before. Nothing here has a default environment.
"""
