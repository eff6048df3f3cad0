"""The gateway itself, the replicas it is linked to, and what it holds in memory."""

from headstart.monitoring.labels import Label, Refusal, ReplicaState, Rescue, StreamState
from headstart.monitoring.metric import MODEL, Metric
from headstart.stages.routing import Routed

_REFUSAL = Label("reason", tuple(Refusal))
_STREAM_STATE = Label("state", tuple(StreamState))
_REPLICA_STATE = Label("state", tuple(ReplicaState))
_RESCUE = Label("outcome", tuple(Rescue))
_ROUTED = Label("reason", tuple(Routed))
_VERSION = Label("version")

_LOOP_LAG_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_PROJECT_S = (5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 1e-2)

REFUSALS = Metric(
    "headstart_refusals_total",
    "counter",
    "Requests and connections that the gateway itself turned away, by why. What an engine refuses "
    "is not in it. Those that came as far as a generation route are also in "
    "headstart_requests_total.",
    "sum by (reason) (rate(headstart_refusals_total[5m]))",
    (_REFUSAL,),
)
CONNECTIONS = Metric(
    "headstart_connections",
    "gauge",
    "Open HTTP connections, idle ones included, refused ones not.",
    "sum(headstart_connections)",
)
STREAMS = Metric(
    "headstart_streams",
    "gauge",
    "Token logs the gateway holds: still growing, or finished and kept until they expire.",
    "sum by (state) (headstart_streams)",
    (_STREAM_STATE,),
)
LOG_BYTES = Metric(
    "headstart_log_bytes",
    "gauge",
    "Memory of the token logs the gateway holds: encoded bytes, and 2,560 for each finished one.",
    "sum(headstart_log_bytes) / (sum(headstart_streams) > 0)",
)
REPLICAS = Metric(
    "headstart_replicas",
    "gauge",
    "Replicas the control plane has published (known), and those of them the gateway is "
    "connected to (up).",
    'headstart_replicas{state="known"} - ignoring(state) headstart_replicas{state="up"}',
    (MODEL, _REPLICA_STATE),
)
REPLICA_WAITING = Metric(
    "headstart_replica_waiting_requests",
    "gauge",
    "Requests in the engines' waiting queues, summed over a model's replicas, as last reported.",
    "sum by (model) (headstart_replica_waiting_requests)",
    (MODEL,),
)
REPLICA_RUNNING = Metric(
    "headstart_replica_running_requests",
    "gauge",
    "Requests in the engines' running batches, summed over a model's replicas, as last reported.",
    "sum by (model) (headstart_replica_running_requests)",
    (MODEL,),
)
RESCUES = Metric(
    "headstart_rescues_total",
    "counter",
    "Detached answers whose replica, link or gateway was lost, by what became of them: taken up "
    "(the replica lived), moved (another was asked to go on), refused (it could not go on "
    "exactly), given up. A refused answer was moved first, so it counts twice.",
    "sum by (outcome) (rate(headstart_rescues_total[5m]))",
    (MODEL, _RESCUE),
)
ROUTED = Metric(
    "headstart_routed_total",
    "counter",
    "Requests to models that have pools of replicas by language, by where they went: to the pool "
    "of their language, or to the common one because it is unknown, has no pool, the request asked "
    "for no such drafts, the pool is hot or down, or its prompt is with another replica.",
    "sum by (reason) (rate(headstart_routed_total[5m]))",
    (MODEL, _ROUTED),
)
CLOCK_UNCERTAINTY = Metric(
    "headstart_clock_offset_uncertainty_seconds",
    "gauge",
    "Largest error that moving a replica's stamps onto the gateway's clock can make; the worst "
    "of a model's replicas. Infinite before the first ping. It bounds the error of hop.",
    "max by (model) (headstart_clock_offset_uncertainty_seconds)",
    (MODEL,),
)
FRAME_PROJECT = Metric(
    "headstart_frame_project_seconds",
    "histogram",
    "Time the gateway takes to turn one frame into the event its reader gets.",
    "histogram_quantile(0.99, sum by (le) (rate(headstart_frame_project_seconds_bucket[5m])))",
    buckets=_PROJECT_S,
)
LOOP_LAG = Metric(
    "headstart_event_loop_lag_seconds",
    "histogram",
    "How late the gateway's event loop runs a timer. Every token waits that long.",
    "histogram_quantile(0.99, sum by (le) (rate(headstart_event_loop_lag_seconds_bucket[5m])))",
    buckets=_LOOP_LAG_S,
)
TASKS = Metric(
    "headstart_event_loop_tasks",
    "gauge",
    "Tasks on the gateway's event loop. It follows the number of connections and answers; one "
    "that climbs while those do not is a leak.",
    "headstart_event_loop_tasks",
)
BUILD_INFO = Metric(
    "headstart_build_info",
    "gauge",
    "Always 1; the version label says what is running.",
    "count by (version) (headstart_build_info)",
    (_VERSION,),
)

METRICS = (
    REFUSALS,
    CONNECTIONS,
    STREAMS,
    LOG_BYTES,
    REPLICAS,
    REPLICA_WAITING,
    REPLICA_RUNNING,
    RESCUES,
    ROUTED,
    CLOCK_UNCERTAINTY,
    FRAME_PROJECT,
    LOOP_LAG,
    TASKS,
    BUILD_INFO,
)
