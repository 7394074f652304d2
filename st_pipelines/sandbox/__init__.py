"""A simulated ServiceTitan on this machine, for the demo and the tests.

Start reading at `server` (the `Sandbox` that callers use) and `api` (how requests are answered).
`world` holds one tenant's records: `company` simulates a business as `entities`, and `stories`
render the entities as records. `faults`, `churn` and `portal` make things go wrong on purpose.
Of this project it imports only the vendor's facts (`catalog.specification`,
`catalog.specification_files`, `catalog.foreign_keys`), never the endpoint catalog or the client.
"""
