"""What Prometheus reads at /metrics, beside memory and processor; nothing about who or what was seen.

The rate is `rate(facial_expressions_seconds_count[1m])`, memory is `process_resident_memory_bytes`.
"""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = Histogram(
    "facial_expressions_seconds",
    "From a whole picture, or a frame, being there to its answer",
    ["kind"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
REFUSED = Counter("facial_expressions_refused_total", "Answers that are errors", ["status"])
VISITORS = Gauge("facial_expressions_visitors", "Live visitors")
VIDEOS = Gauge("facial_expressions_videos", "Videos waiting, running or kept")
