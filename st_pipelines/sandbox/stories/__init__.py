"""Stories: how the company's entities become records of a table, one module per business area.

`story` defines what a story is. `World` looks here for a table's story, and uses `generic` for
tables that have none.
"""
