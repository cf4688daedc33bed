"""What Prometheus reads at /metrics: counts, times and memory; nothing about who or what was seen."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)  # seconds


class Metrics:
    """One registry per server. The rate is `rate(facial_expressions_seconds_count[1m])`, memory is
    `process_resident_memory_bytes`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.seconds = Histogram(
            "facial_expressions_seconds",
            "From a whole picture, or a frame, being there to its answer",
            ["kind"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.refused = Counter(
            "facial_expressions_refused_total", "Answers that are errors", ["status"], registry=self._registry
        )
        self.visitors = Gauge("facial_expressions_visitors", "Live visitors", registry=self._registry)
        self.videos = Gauge("facial_expressions_videos", "Videos waiting, running or kept", registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)
