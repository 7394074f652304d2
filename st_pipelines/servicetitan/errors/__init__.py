"""Names everything that can go wrong with ServiceTitan.

Start at `errors`, the exceptions by what the reader must do; `problems` holds the texts for people,
`network` the reasons why no response came. The package imports nothing of `http` or `reading`.
"""
