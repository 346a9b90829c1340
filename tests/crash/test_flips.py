"""A killed server's folder with flipped bits and short files (L6): each is named, or harmless."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from sqlalchemy.exc import DatabaseError
from tests.crash.flips import SilentlyWrong, run_flips

from maquette.engine.errors import MaquetteError
from maquette.projections.sums import Sums


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_l6_no_damage_of_a_killed_servers_folder_is_silently_wrong(tmp_path: Path) -> None:
    tally = await run_flips(tmp_path, 44, seed=1)
    assert tally.named.total() + tally.harmless.total() == 44
    assert tally.named["asset"] > 0
    assert tally.harmless["asset"] == 0
    assert tally.named["database"] > 0


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_l6_read_models_without_sums_would_be_silently_wrong(tmp_path: Path) -> None:
    """The harness itself finds what is not noticed."""
    parts = {"read model": "projections/*/*.sqlite"}
    with patch("tests.crash.flips.PARTS", parts), patch.object(Sums, "check"), pytest.raises(SilentlyWrong):
        await run_flips(tmp_path, 150, seed=1, told=(MaquetteError, DatabaseError))
