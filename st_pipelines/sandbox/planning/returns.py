"""Plans returns: some of the parts of an order go back to the vendor, who gives a credit."""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.ids import generate_ids
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.purchase_entities import PurchaseReturn, Receipt
from st_pipelines.sandbox.schedule import sort_moments


class Returns:
    """The returns of a company."""

    def __init__(self, company: Books) -> None:
        self._company = company
        self.returns: list[PurchaseReturn] = []
        self._ids = generate_ids(372_000_000)
        self._seen = 0

    def extend(self) -> None:
        """Add the returns of the receipts that were planned since the last call."""
        for receipt in self._company.receipts[self._seen :]:
            if receipt.draw % 8 == 0 or not self.returns:
                self._add(receipt)
        self._seen = len(self._company.receipts)

    def _add(self, receipt: Receipt) -> None:
        order, draw = receipt.order, receipt.draw
        line = order.lines[0]
        created = receipt.moments[0] + (1 + draw % 9) * ticks.DAY + draw % ticks.HOUR
        is_canceled = draw % 5 == 4
        returned = 0 if is_canceled else created + (1 + draw % 3) * ticks.DAY
        credited = returned and returned + (7 + draw % 14) * ticks.DAY
        canceled = created + ticks.DAY if is_canceled else 0
        self.returns.append(
            PurchaseReturn(
                id=next(self._ids),
                moments=sort_moments(created, returned, credited, canceled),
                deactivated=canceled if draw % 2 else 0,
                draw=draw,
                receipt=receipt,
                line=line,
                quantity=1 + draw % line.quantity,
                returned=returned,
                credited=credited,
                canceled=canceled,
            )
        )
