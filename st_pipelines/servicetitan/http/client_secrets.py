"""Which client secret to send: one may be rotated while loads go on.

ServiceTitan lets an app have two active secrets. So a second may be configured, which is tried
where the first is refused; and where both are, the place that they came from is asked once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import SecretStr

from st_pipelines.servicetitan.http.connection import Connection

# Every asset of a run fails alike with a refused secret; not each shall ask the manager.
_PAUSE = 60.0


@dataclass(frozen=True, kw_only=True)
class SecretState:
    """What ServiceTitan said of one client secret.

    Attributes:
        name: of the setting and its source.
        accepted: a token was issued.
        said: why not, without secrets; empty where it was.
    """

    name: str
    accepted: bool
    said: str = ""


class ClientSecrets:
    """The client secrets of a connection in the order of trying. Not for several threads at once.

    Attributes:
        notice: what a person should do about the rotation; empty while the first is accepted.
    """

    def __init__(self, connection: Connection, clock: Callable[[], float]) -> None:
        """Begin with those of the connection.

        Args:
            connection: whose secrets.
            clock: seconds, never going back.
        """
        self.notice = ""
        self._connection = connection
        self._clock = clock
        self._asked_at: float | None = None
        pair = (connection.client_secret, connection.client_secret_next)
        self._first, self._next = pair
        self._order = [secret for secret in pair if secret]
        self._fresh: list[SecretStr] = []

    @property
    def all(self) -> tuple[SecretStr, ...]:
        """Those that were sent or will be, for `redact.scrub`."""
        return (*self._order, *self._fresh)

    def candidates(self) -> Iterator[SecretStr]:
        """Each secret that is worth trying; what comes from asking anew is asked for last.

        Raises:
            Exception: whatever `Connection.secrets_anew` raises.
        """
        yield from tuple(self._order)
        yield from self._anew()

    def accept(self, secret: SecretStr) -> bool:
        """Send this one from now on.

        Args:
            secret: a candidate for which a token was issued.

        Returns:
            Whether it is another than before, so that `notice` is new.
        """
        if secret == self._order[0]:
            return False
        if secret not in self._order:
            self._order = list(self._fresh)
        self._order.remove(secret)
        self._order.insert(0, secret)
        self._asked_at = None
        self.notice = self._advice(secret)
        return True

    def refused(self) -> str:
        """What to add to the hint when all are refused."""
        if self._next is None:
            return ""
        return f"{' and '.join(self._connection.secret_names)} are both refused. "

    def _anew(self) -> Iterator[SecretStr]:
        ask, now = self._connection.secrets_anew, self._clock()
        if ask is None or (self._asked_at is not None and now < self._asked_at + _PAUSE):
            return
        self._fresh = list(ask())
        self._asked_at = now  # only now: while its source is out of reach, each load says so
        yield from (secret for secret in self._fresh if secret not in self._order)

    def _advice(self, secret: SecretStr) -> str:
        first, following = self._connection.secret_names
        if secret == self._next:
            return (
                f"ServiceTitan refuses {first} and accepts {following}: move the value of the "
                "latter to the former, delete the old value there, and the old secret in the "
                "developer portal if it is still listed"
            )
        if secret == self._first:
            return f"ServiceTitan accepts {first} again and refuses {following}: delete the latter"
        return (
            f"ServiceTitan refuses the value that {first} had at the start; its new value was read "
            "and is accepted: the old secret may be deleted in the developer portal"
        )
