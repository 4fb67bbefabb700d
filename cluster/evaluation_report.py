"""An evaluation on its MLflow page: figures, a table in words, and earlier runs on the same tasks beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cluster.evaluation_figures import Grouping, draw_comparison, draw_groups, draw_passes, words

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG, LABEL_TAG, FIGURES_FILE = "evaluation", "evaluation_label", "evaluation.json"
MAX_COMPARED = 6
_GROUPS: dict[Grouping, str] = {
    "by_domain": "By domain",
    "by_kind": "By kind",
    "by_num_calls": "By number of calls in the reference",
}


def log(client: MlflowClient, experiment_id: str, run_id: str, key: str, label: str, figures: dict[str, Any]) -> None:
    """`key` names what is comparable: the same tasks, judged the same way. `label` says which run this is, in words."""
    earlier = _earlier(client, experiment_id, run_id, key)
    client.log_text(run_id, json.dumps(figures, indent=2), FIGURES_FILE)
    client.set_tag(run_id, LABEL_TAG, label)
    client.set_tag(run_id, KEY_TAG, key)  # last: from here on others compare themselves with this run
    client.set_tag(run_id, "mlflow.note.content", words(figures, label))
    drawn = {"passes.png": draw_passes(figures)}
    drawn |= {f"passes_{group}.png": draw_groups(figures, group, title) for group, title in _GROUPS.items()}
    if earlier:
        drawn["comparison.png"] = draw_comparison([(label, figures), *earlier])
    for file, figure in drawn.items():
        client.log_figure(run_id, figure, file, save_kwargs={"dpi": 144})


def _earlier(client: MlflowClient, experiment_id: str, run_id: str, key: str) -> list[tuple[str, dict[str, Any]]]:
    """The latest finished ones, newest first."""
    from mlflow.artifacts import load_text

    runs = client.search_runs(
        [experiment_id], f"tags.{KEY_TAG} = '{key}'", order_by=["start_time DESC"], max_results=MAX_COMPARED
    )
    return [
        (
            run.data.tags.get(LABEL_TAG, run.info.run_name or ""),
            json.loads(load_text(f"{run.info.artifact_uri}/{FIGURES_FILE}")),
        )
        for run in runs
        if run.info.run_id != run_id
    ]
