"""OpenTelemetry, by option: questions as spans, sent to a collector that the user names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from minions.errors import BadRequest

NANO = 1_000_000_000


class SpanSink(Protocol):
    """Where traces of questions go."""

    def export(self, trace: dict[str, Any], status: str) -> None:
        """Send a `Trace` as it is kept: names and times of its steps, and nothing they found."""
        ...

    def close(self) -> None:
        """Send what waits."""
        ...


class NoSink:
    """Nobody asked for traces: they stay in the store."""

    def export(self, trace: dict[str, Any], status: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Nothing waits."""


@dataclass(frozen=True, kw_only=True)
class OtlpSink:
    """Sends over OTLP/HTTP, in the background. Made by `open_sink`."""

    provider: Any
    """A TracerProvider; untyped, because the package is an extra."""

    def export(self, trace: dict[str, Any], status: str) -> None:
        """One span for the question, one below it for each step."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        tracer = self.provider.get_tracer("minions")
        began = trace["began_at"]
        root = tracer.start_span(
            "question",
            start_time=_nanoseconds(began),
            attributes={"minions.trace_id": trace["trace_id"], "minions.status": status},
        )
        for step in trace["steps"]:
            start = began + step["started_s"]
            span = tracer.start_span(
                step["name"], set_span_in_context(root), start_time=_nanoseconds(start)
            )
            if step["error"] is not None:
                # The kind of error only: its message may quote a document.
                span.set_status(Status(StatusCode.ERROR, step["error"].partition(":")[0]))
            span.end(_nanoseconds(start + (step["elapsed_s"] or 0.0)))
        root.end(_nanoseconds(began + trace["elapsed_s"]))

    def close(self) -> None:
        """Send what waits."""
        self.provider.shutdown()


def open_sink(endpoint: str | None) -> SpanSink:
    """Raises BadRequest where a collector is named and the extra is not installed."""
    if endpoint is None:
        return NoSink()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise BadRequest(
            "otel_endpoint is set, and OpenTelemetry is not installed: "
            "pip install 'minions[otel]', or unset otel_endpoint."
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "minions"}))
    exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtlpSink(provider=provider)


def _nanoseconds(unix_s: float) -> int:
    return int(unix_s * NANO)
