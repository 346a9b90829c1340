"""What became of a round."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Became:
    """How many inputs ended how, and after how many milliseconds honest clients saw their own edits come back."""

    fates: Counter[str] = field(default_factory=Counter)
    echoes: list[float] = field(default_factory=list)

    def add(self, other: Became) -> None:
        """Take in another round's."""
        self.fates += other.fates
        self.echoes += other.echoes

    @property
    def total(self) -> int:
        """How many inputs there were."""
        return self.fates.total()

    def __str__(self) -> str:
        said = ", ".join(f"{number} {fate}" for fate, number in self.fates.most_common())
        if not self.echoes:
            return said
        ranked = sorted(self.echoes)
        half, most = ranked[len(ranked) // 2], ranked[int(0.95 * (len(ranked) - 1))]
        return (
            f"{said}; {len(ranked)} honest edits came back: half within {half:.0f} ms, 95 % within {most:.0f}, "
            f"all within {ranked[-1]:.0f}"
        )
