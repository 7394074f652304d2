"""A simulated ServiceTitan on this machine, for the demo and the tests.

Start reading at `server` (the `Sandbox` that callers use) and `api` (how requests are answered).
`world` holds one tenant's records: `company` simulates a business as `entities`, and `stories`
render the entities as records. `faults`, `churn` and `portal` make things go wrong on purpose.
The package imports `catalog` only, and nothing of the client that it tests.
"""
