"""The power fails under a whole data folder (L1, L6, D6, V1): what was told is there, nothing that is left is wrong."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
from tests.crash.folders import run_folder_cuts
from tests.crash.medium import Flushed, Medium
from tests.crash.recording import recording

from maquette.engine import assets
from maquette.engine.assets import AssetStore, AssetUnwritable, asset_id
from maquette.server.tokens import FILE, Keyring


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_l1_no_power_cut_takes_an_asset_that_an_op_names_a_key_that_signed_or_a_backup(tmp_path: Path) -> None:
    tally = await run_folder_cuts(tmp_path, 20, seed=2)
    assert tally.cuts == 20
    assert tally.torn > 5
    assert tally.kept["mark"] > 100
    assert tally.kept["token"] > 10
    assert tally.found["whole backups"] > 0
    assert tally.found["snapshots equal to a replay"] > 0


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_l1_the_same_power_cuts_take_assets_that_were_not_flushed(tmp_path: Path) -> None:
    with patch.object(assets, "sync_folder"), pytest.raises(AssertionError, match="expected an existing asset"):
        await run_folder_cuts(tmp_path, 40, seed=2)


@pytest.mark.parametrize("failing", range(5))
def test_l7_an_asset_is_on_disk_when_put_returns_though_a_flush_failed_before(tmp_path: Path, failing: int) -> None:
    with recording(tmp_path) as journal:
        flush, flushes = os.fsync, 0

        def sometimes(file: int) -> None:
            nonlocal flushes
            flushes += 1
            if flushes == failing:
                raise OSError(5, "Input/output error")
            flush(file)

        with patch.object(os, "fsync", sometimes):
            for _ in range(2):
                with suppress(AssetUnwritable, OSError):
                    asset = AssetStore(tmp_path / "assets").put(b"abc")
    assert asset == asset_id(b"abc")
    medium = Medium({})
    medium.take(journal.steps)
    for seed in range(20):
        left = medium.after_power_cut(Random(seed))
        assert left.get(f"assets/{asset[:2]}/{asset}") == b"abc"


def test_a_power_cut_behind_the_first_token_leaves_the_key_that_signed_it(tmp_path: Path) -> None:
    with recording(tmp_path / "data") as journal:
        Keyring.load(tmp_path / "data")
    medium = Medium({})
    medium.take(journal.steps)
    assert Flushed in {type(step) for step in journal.steps}
    assert all(FILE in medium.after_power_cut(Random(seed)) for seed in range(20))
