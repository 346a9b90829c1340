"""Receipts: what became of an update that somebody sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from maquette.engine.errors import MaquetteError
from maquette.engine.events import START, Position
from maquette.engine.index import Hole


@dataclass(slots=True)
class Receipt:
    """What became of one submitted update. `settled` when it is on disk, refused as a whole, or nothing new.

    `denied` is the reason of rule G5 (a), `for_role` when another role would do; `refused` those of G5 (b), `hole` what
    a waiting op lacks.
    """

    settled: bool = False
    position: Position = START
    denied: str | None = None
    for_role: bool = False
    refused: tuple[str, ...] = ()
    hole: Hole | None = None
    error: MaquetteError | None = None
    on_settled: Callable[[Receipt], None] | None = None
    on_trial: bool = False
    """Nothing is known of it yet, because it is large: `on_judged` is called when the rest of this says more."""
    on_judged: Callable[[Receipt], None] | None = None

    withdrawn: bool = False
    on_withdrawn: Callable[[], object] | None = None
    """Takes it out of the line, as long as it stands in one."""

    def withdraw(self) -> None:
        """Nobody waits for it any more: a large update that is still in line is not tried."""
        self.withdrawn = True
        if self.on_withdrawn is not None:
            self.on_withdrawn()

    def judged(self) -> None:
        self.on_trial = False
        if self.on_judged is not None:
            tell, self.on_judged = self.on_judged, None
            tell(self)

    def settle(self, position: Position = START) -> None:
        self.settled, self.position = True, position
        if self.on_settled is not None:
            self.on_settled(self)

    def fail(self, error: MaquetteError) -> None:
        self.error = error
        self.settle()

    async def wait(self) -> Receipt:
        """This receipt, once settled. Raises what kept the op out of the log, when it was the machine's fault."""
        if not self.settled:
            settled, before = asyncio.Event(), self.on_settled

            def tell(receipt: Receipt) -> None:
                settled.set()
                if before is not None:
                    before(receipt)

            self.on_settled = tell
            await settled.wait()
        if self.error is not None:
            raise self.error
        return self
