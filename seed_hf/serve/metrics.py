"""What `/metrics` counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server. No label holds anything that a client wrote."""

    def __init__(self):
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("seed_requests", "Number of answered requests.", ("path", "status"), registry=registry)
        self.seconds = Histogram("seed_request_seconds", "Time of a request.", ("path",), registry=registry)
        self.in_flight = Gauge("seed_requests_in_flight", "Number of requests in work.", registry=registry)
        self.disconnected = Counter(
            "seed_requests_disconnected", "Number of requests whose client left.", registry=registry
        )
        self.batch_rows = Histogram(
            "seed_batch_rows", "Number of rows of a batch.", ("lane",), buckets=SIZES, registry=registry
        )
        self.cancelled_jobs = Counter(
            "seed_jobs_cancelled", "Number of jobs that nobody waited for.", ("lane", "when"), registry=registry
        )
        self.tokens = Counter("seed_generated_tokens", "Number of tokens that were written.", registry=registry)
        self.stopped_rows = Counter(
            "seed_rows_stopped",
            "Number of rows that were stopped while they were written or drawn.",
            registry=registry,
        )
        self.pictures = Counter("seed_pictures", "Number of pictures that were drawn.", registry=registry)


__all__ = ["Metrics"]
