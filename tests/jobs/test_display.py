"""Progress lines: now and then, each end once, and on again where more is planned after an end."""

from __future__ import annotations

import logging

import pytest

from cluster.task_building import Progress
from jobs.display import display_units


def test_lines_go_on_after_the_end_of_a_round(caplog: pytest.LogCaptureFixture) -> None:
    from collections import Counter

    with caplog.at_level(logging.INFO, "progress"), display_units() as show:
        for done, planned in ((1, 2), (2, 2), (2, 2), (3, 4), (4, 4)):
            show(Progress(done, done, planned, done, done, Counter()), 1.0)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["1/2", "2/2", "4/4"]
