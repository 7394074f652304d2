"""The sensors of an environment: `changes`, `gaps` and `alerts`, one module each.

`changes` requests today's partition of the endpoints whose data changed at ServiceTitan. `gaps`
requests past days that are incomplete: never loaded, or loaded before they ended. `alerts` requests
no runs; it posts failures to a webhook. Start reading at `changes`.
`incidents` finds the failures for `alerts`. Each sensor keeps its state between ticks in its
Dagster cursor.
"""
