"""A simulated ServiceTitan on this machine, for the demo and the tests.

Start with `server` (the `Sandbox` that callers use) and `api` (how a request is answered).
`world` holds one tenant's records: `company` simulates a business as `entities`, and `stories`
turn entities into records of each table. `faults`, `churn` and `portal` make things go wrong on
purpose. Imports only `catalog`; nothing of the client that it tests.
"""
