"""Distribution of test files to the test processes: one process takes the files that mostly wait for services."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

# For schedulers, network file systems, servers that are frozen, a node that is lost and comes back.
WAITING = ("tests/cluster/", "tests/database/", "tests/browser/test_cluster_loop.py")
MIN_PROCESSES = 3


class WaitingFilesApart(LoadFileScheduling):
    """As ``--dist loadfile``, but of three or more processes one takes the files of :data:`WAITING` and no others.

    Such tests need little of a processor and a lot of time: they run beside those that compute, at no other's cost.
    """

    _waiting: WorkerController | None = None  # the process that takes them

    def _assign_work_unit(self, node: WorkerController) -> None:
        kinds = {scope.startswith(WAITING) for scope in self.workqueue}
        if (
            self._waiting is None
            and len(self.nodes) >= MIN_PROCESSES
            and len(kinds) == 2
            and not any(self.assigned_work.values())
        ):
            self._waiting = node
        if self._waiting is not None:
            of_kind = next((s for s in self.workqueue if s.startswith(WAITING) == (node is self._waiting)), None)
            if of_kind is None and node is self._waiting:
                node.shutdown()  # after what it has been given
                return
            if of_kind is not None:
                self.workqueue.move_to_end(of_kind, last=False)
        super()._assign_work_unit(node)
