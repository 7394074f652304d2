"""Defines the credentials of the sandbox's tenants. They are public and protect nothing."""

from __future__ import annotations

from dataclasses import dataclass

APP_KEY = "ak1.sandbox"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The credentials that a client needs for one tenant."""

    tenant_id: str
    client_id: str
    client_secret: str
    app_key: str = APP_KEY

    @classmethod
    def for_tenant(cls, number: int) -> Credentials:
        """Return the credentials of a tenant; `number` counts from 0."""
        tenant = str(1_000_000_001 + number)
        return cls(
            tenant_id=tenant,
            client_id=f"cid.sandbox.{tenant}",
            client_secret=f"cs1.sandbox.{tenant}",
        )
