"""A part that says where it is. Alone in its file: each of its processes imports that, and nothing else."""

from __future__ import annotations


class Place:
    def node(self) -> str:
        import ray

        return ray.get_runtime_context().get_node_id()
