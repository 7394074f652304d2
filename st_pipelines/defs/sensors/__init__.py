"""The sensors of an environment: `changes`, `gaps` and `alerts`, one module each.

`changes` requests today's partition of what has changed at ServiceTitan, `gaps` requests past days
that are missing or incomplete, and `alerts` requests no runs: it posts failures to a webhook. Start
reading at `changes`. `probing` asks ServiceTitan on behalf of `changes`; `incidents` finds failures
on behalf of `alerts`. All state between ticks lives in Dagster's cursor of the sensor, see
`cursor`.
"""
