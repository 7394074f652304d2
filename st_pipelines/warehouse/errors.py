"""What can be wrong with a warehouse, and what to do about it.

WarehouseError
├── WarehouseBusy      another process holds the file and did not let go in time
├── WarehouseUnusable  the place cannot be written, or what is there is no DuckDB database
└── WarehouseFull      the disk is full

MalformedRecords       what was served as records is none
"""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a full disk, a used-up quota, or a limit for the size of files."""


class MalformedRecords(Exception):
    """What came as records is no JSON array of objects, although the answer said so."""


class WarehouseError(Exception):
    """The warehouse could not take a load; nothing of it was written."""

    permanent = True


class WarehouseBusy(WarehouseError):
    """Another process holds the file."""

    permanent = False


class WarehouseUnusable(WarehouseError):
    """The place cannot be written, or what is there is no DuckDB database."""


class WarehouseFull(WarehouseError):
    """The disk is full."""
