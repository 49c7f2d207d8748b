"""`RunView`: the state of a run that follows from its updates, for live views."""

from treadle.client.models import (
    EdgeStateChangedData,
    EdgeStateData,
    LogRecordedData,
    NodeOutputDeltaData,
    NodeStateChangedData,
    NodeStateData,
    RunData,
    RunProgressedData,
    RunSnapshotData,
    RunStatusChangedData,
    RunUpdateData,
)

LOG_LINES = 10_000
"""Lines of the log that a view keeps by default."""


class RunView:
    """Keeps a run up to date. Call `apply` with each update of `watch_run`.

    Attributes:
        seq: The last number received; pass it as `after` to continue.
        run: The run; None before the first snapshot. Its output and error are those of the snapshot.
        status: The present status of the run; None before the first message that has it.
        progress: The present progress of the run, 0.0 to 1.0.
        nodes: The state of each node, by node id.
        edges: The state of each edge, by edge id.
        texts: The text that each node has streamed, by node id.
        log: The newest lines of the log that were received, oldest first. The server has all of them.
    """

    def __init__(self, *, log_lines: int = LOG_LINES) -> None:
        """Create an empty view, which keeps at most `log_lines` lines of the log."""
        self._log_lines = log_lines
        self.seq: int | None = None
        self.run: RunData | None = None
        self.status: str | None = None
        self.progress = 0.0
        self.nodes: dict[str, NodeStateData] = {}
        self.edges: dict[str, EdgeStateData] = {}
        self.texts: dict[str, str] = {}
        self.log: list[LogRecordedData] = []

    def apply(self, update: RunUpdateData) -> None:
        """Take in one update. An update that comes twice changes nothing."""
        self.seq = max(update.seq, self.seq or 0)
        match update:
            case RunSnapshotData():
                self._show(update)
            case NodeStateChangedData():
                self._change_node(update.node_state)
            case EdgeStateChangedData():
                self.edges[update.edge_state.edge_id] = update.edge_state
            case NodeOutputDeltaData():
                text = self.texts.get(update.node_id or "", "")
                self.texts[update.node_id or ""] = text[: update.offset] + update.text
            case LogRecordedData():
                self._add_line(update)
            case RunProgressedData():
                self.progress = update.progress
            case RunStatusChangedData():
                self.status = update.status

    def _add_line(self, line: LogRecordedData) -> None:
        if not self.log or line.seq > self.log[-1].seq:
            self.log.append(line)
        del self.log[: max(0, len(self.log) - self._log_lines)]

    def _show(self, snapshot: RunSnapshotData) -> None:
        self.run, self.status, self.progress = snapshot.run, snapshot.run.status, snapshot.run.progress
        self.nodes = {state.node_id: state for state in snapshot.node_states}
        self.edges = {state.edge_id: state for state in snapshot.edge_states}
        self.texts = {state.node_id: state.partial_output or "" for state in snapshot.node_states}

    def _change_node(self, state: NodeStateData) -> None:
        """Set the state of a node and of the edges that leave it: a connection may be lost before their updates."""
        self.nodes[state.node_id] = state
        self.edges.update({edge.edge_id: edge for edge in state.edge_states})
        self.texts[state.node_id] = state.partial_output or ""
