"""Adoption: makes columns of the fields that loads kept in `_extra`.

Start at `adopt`, which plans and runs an adoption; `inference` finds the types, and `move` writes
the values. No request to ServiceTitan is needed, as `_extra` holds every value.
"""
