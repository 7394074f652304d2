"""Turns pages of JSON bytes into typed rows, without losing a value.

Start at `stage`: it writes pages that match the catalog as they came, and has `conform` make the
other records fit. `typed_rows` then reads the files into an in-memory table. Nothing here opens a
warehouse or knows its tables.
"""
