"""
The least that a file costs: the calls are made, and really move files.
"""

from benchmarks import data
from benchmarks.limits import files_table
from realize.store.guard import ignore_lease_signals


def test_every_step_has_its_time(tmp_path):
    ignore_lease_signals()

    rows = list(files_table(tmp_path, 300))

    assert [row.split("|")[1].split(":")[0].strip() for row in rows[2:]] == [
        "source",
        "destination",
        "destination",
        "source",
        "both ends",
    ]
    assert data.measure(tmp_path / "source").files == 0
    assert data.measure(tmp_path / "destination").files == 300
