"""
What is done between the runs of a case.
"""

from functools import partial

import pytest

from benchmarks import data
from benchmarks.contenders import COPY
from benchmarks.measuring import _DELETED, Bench
from benchmarks.scenarios import Case, Recipe


@pytest.mark.parametrize(("count", "kept"), [(_DELETED + 1, 2), (10, 0)])
def test_many_files_are_deleted_at_the_end_only(tmp_path, count, kept):
    """
    So that no run has to find its way around the inodes that another left.
    """
    fill = partial(data.write_files, count=count, size=1, each=count)
    recipe = Recipe("files", fill)
    case = Case(
        name="few", title="Files", source=recipe, contenders=[COPY], direction="local"
    )
    bench = Bench(tmp_path, tmp_path / "memory", lambda text: None)

    result = bench.run(case, 1)

    assert not result.failures(complete=True)
    discarded = tmp_path / "discarded"
    assert len(list(discarded.glob("*"))) == kept
