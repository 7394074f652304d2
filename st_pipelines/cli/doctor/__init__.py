"""The steps of `st-pipelines check`.

Start at `steps`, which lists them in order. Each step is a function in `local`, `network` or
`permissions` that takes the `Subject` of the check and yields findings; `report` prints them.
Nothing here writes to ServiceTitan or to the warehouse.
"""
