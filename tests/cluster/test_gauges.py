"""The figures that Prometheus gets:

1. Without Ray nothing happens; a name outside the table is an error all the same.
2. A counter rises by what was added, whatever the ticks between, and never twice.
3. On a real Ray head every name of the table appears at Ray's own endpoint, with its tags and its last value.
4. The engines' addresses are written whole, as Prometheus reads them.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.gauges import FIGURES, Totals, exported_name, publish, write_targets
from tests.conftest import ROOT, RayHead


def test_every_figure_says_what_it_is() -> None:
    for name, figure in FIGURES.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name)
        assert not name.endswith("_total"), "Ray adds it"
        assert figure.unit and figure.description[0].isupper() and not figure.description.endswith(".")
    assert len({exported_name(name) for name in FIGURES}) == len(FIGURES)


def test_without_ray_nothing_happens_and_wrong_names_are_found() -> None:
    script = (
        "import sys; from cluster.gauges import publish; publish({'in_flight': 3.0}, {'run': 'a'}); "
        "assert 'ray' not in sys.modules\n"
        "import ray; publish({'in_flight': 3.0, 'rollouts_finished': 1.0})"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=180)
    with pytest.raises(KeyError, match="in_fligth"):
        publish({"in_fligth": 1.0})
    with pytest.raises(KeyError, match="model"):
        publish({"in_flight": 1.0}, {"model": "m"})


@given(st.lists(st.integers(0, 1000), max_size=20), st.data())
def test_a_counter_rises_by_what_was_added(steps: list[int], data: st.DataObject) -> None:
    totals, raised, total = Totals(), 0.0, 0
    for step in steps:
        total += step
        for _ in range(data.draw(st.integers(0, 2))):  # ticks may be missed, or see the same total again
            raised += totals.rise(("a", "run"), total)
    raised += totals.rise(("a", "run"), total)
    assert raised == sum(steps)
    assert totals.rise(("a", "other run"), 5.0) == 5.0


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20))
def test_a_total_that_falls_never_counts_too_much(totals_seen: list[float]) -> None:
    totals = Totals()
    rises = [totals.rise(("a",), total) for total in totals_seen]
    true = [max(0.0, b - a) for a, b in zip([0.0, *totals_seen], totals_seen, strict=False)]
    assert all(rise >= 0 for rise in rises)
    assert math.isclose(sum(rises), sum(true))


def test_the_engines_addresses_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "engines.json"
    write_targets(path, {"teacher": ["http://10.0.0.2:8001/v1", "http://10.0.0.1:8000/v1"], "user": []})
    write_targets(path, {"teacher": ["http://10.0.0.2:8001/v1"], "user": ["http://10.0.0.3:9000/v1"]})
    assert json.loads(path.read_text()) == [
        {"targets": ["10.0.0.2:8001"], "labels": {"role": "teacher"}},
        {"targets": ["10.0.0.3:9000"], "labels": {"role": "user"}},
    ]
    assert [file.name for file in path.parent.iterdir()] == ["engines.json"]


PUBLISHER = """
import sys, time, urllib.request
import ray
from cluster.gauges import FIGURES, exported_name, publish

def scrape():
    pages = []
    for node in ray.nodes():
        with urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=10) as page:
            pages.append(page.read().decode())
    return "\\n".join(pages)

ray.init(address=sys.argv[1], log_to_driver=False)
publish({name: 2.0 for name in FIGURES} | {"kv_use_max": float("nan")}, {"run": "r1"})
publish({"rollouts_finished": 5.0, "in_flight": 7.0, "kv_use_max": 0.5}, {"run": "r1"})
publish({"in_flight": 3.0}, {"run": "r1", "role": "user"})
deadline = time.monotonic() + 180
while time.monotonic() < deadline:
    text = scrape()
    if all(exported_name(name) + "{" in text for name in FIGURES) and 'role="user"' in text:
        break
    time.sleep(0.5)
print("\\n".join(line for line in text.splitlines() if "agentscaler" in line))
"""


@pytest.mark.slow
def test_a_real_ray_head_exports_every_figure(ray_head: RayHead) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PUBLISHER, ray_head.address],
        cwd=ROOT,
        env=ray_head.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    types = dict(re.findall(r"# TYPE (\S+) (\S+)", done.stdout))
    assert types == {exported_name(name): figure.kind for name, figure in FIGURES.items()}

    def value(name: str, role: str = "") -> float:
        found = [
            float(line.rsplit(" ", 1)[1])
            for line in done.stdout.splitlines()
            if line.startswith(exported_name(name) + "{") and 'run="r1"' in line and f'role="{role}"' in line
        ]
        assert len(found) == 1, (name, found)
        return found[0]

    assert value("rollouts_finished") == 5.0
    assert value("rollouts_accepted") == 2.0
    assert value("in_flight") == 7.0
    assert value("in_flight", "user") == 3.0
    assert value("kv_use_max") == 0.5
    assert value("commit_lag") == 2.0
