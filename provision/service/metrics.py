"""What a monitoring system is told, as Prometheus reads it: sums and states, and no secret.

Labels are names of the inventory and words of the program. Nothing that a machine or a stranger can make up is one, so
the number of series is bounded by the site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from provision.errors import Unavailable
from provision.service.core import Core
from provision.service.expiries import Expiries
from provision.service.listeners import Listeners
from provision.service.tally import BUCKETS, Labels
from provision.service.tickets import Tickets


class Metrics:
    """The metrics of one service. Nothing but the tally is kept for them; the rest is looked up when somebody asks."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4
    """Every release of Prometheus reads this one."""

    def __init__(self, core: Core, listeners: Listeners, expiries: Expiries, tickets: Tickets | None) -> None:
        # Not the library's global one: a process may have several services, and its counters would take locks.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(core, listeners, expiries, tickets))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All of them in the text format 0.0.4."""
        return generate_latest(self._registry)


class _Collector(Collector):
    """What the service knows, as families of samples."""

    def __init__(self, core: Core, listeners: Listeners, expiries: Expiries, tickets: Tickets | None) -> None:
        self._core, self._listeners, self._expiries, self._tickets = core, listeners, expiries, tickets

    def collect(self) -> Iterator[Metric]:
        """Every family, made now."""
        yield from self._counts()
        yield from self._standing()
        yield from self._ends()
        core = self._core
        windows = core.store.windows.open_at(core.clock())
        yield _gauge("provision_hosts", "Hosts of the inventory.", len(core.hosts))
        text = "Hosts that were declared compromised and have a credential that is not replaced yet."
        yield _gauge("provision_hosts_exposed", text, len(core.store.snapshot.exposed))
        text = "Hosts with an alert of the last day that 'provision status' shows, by what it is about."
        alerted: dict[Labels, float] = {(kind,): n for kind, n in core.alerts.counts(core.hosts, core.clock()).items()}
        yield _labelled("provision_hosts_alerted", text, ("kind",), alerted)
        yield _gauge("provision_windows_open", "Boot windows that are open.", windows)
        yield _gauge(
            "provision_warnings", "Warnings of the service itself that 'provision status' shows.", len(core.warnings())
        )

    def _counts(self) -> Iterator[Metric]:
        tally = self._core.tally
        yield _counter("provision_refusals", "Refusals by policy.", ("rule", "channel"), tally.refusals())
        yield _counter("provision_releases", "Releases by policy.", ("medium", "channel"), tally.releases())
        text = "Bytes of seeds with secrets that hosts have confirmed, or that were sent to operators."
        yield _counter("provision_secret_bytes", text, ("channel",), tally.secrets())
        counts, seconds = tally.ups()
        bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
        text = "Time from opening a boot window to the host that says it is up."
        ups = HistogramMetricFamily("provision_window_to_up_seconds", text)
        ups.add_metric([], list(zip(bounds, counts, strict=True)), seconds)
        yield ups

    def _standing(self) -> Iterator[Metric]:
        core, ground = self._core, self._core.ground
        text = "Whether the database is believed (1) or nothing is given away (0)."
        yield _gauge("provision_store_trusted", text, not ground.distrust)
        text = "Whether the clock is believed (1) or nothing is given away (0)."
        yield _gauge("provision_clock_trusted", text, not ground.behind)
        try:
            core.audit.check()
            writable = True
        except Unavailable:
            writable = False
        text = "Whether the audit log can be written (1) or nothing is given away (0)."
        yield _gauge("provision_audit_writable", text, writable)
        yield _gauge("provision_audit_sequence", "Number of the last entry of the audit log.", core.audit.sequence)
        whole: dict[Labels, float] = {
            (image,): core.integrity.is_whole(base_id) for image, base_id in core.bases().items()
        }
        text = "Whether every file of a base image was whole when it was read last (1) or not (0)."
        yield _labelled("provision_image_whole", text, ("image",), whole)
        served: dict[Labels, float] = {(name,): state.served for name, state in self._listeners().items()}
        yield _labelled("provision_listener_up", "Whether a listener is served (1) or not (0).", ("listener",), served)

    def _ends(self) -> Iterator[Metric]:
        """When the first of each kind ends; nothing of a kind without any."""
        first: dict[Labels, float] = {(kind,): end.timestamp() for kind, end in sorted(self._expiries.first().items())}
        text = "When the first of its kind ends: a certificate, or a token."
        yield _labelled("provision_first_not_after_timestamp_seconds", text, ("kind",), first)
        text = "When the oldest keytab that a host has was sealed."
        oldest = self._expiries.oldest_keytab()
        sealed: dict[Labels, float] = {(): oldest.timestamp()} if oldest is not None else {}
        yield _labelled("provision_oldest_keytab_timestamp_seconds", text, (), sealed)
        text = "When the newest key of the API's own keytab was written."
        newest = self._tickets.written() if self._tickets is not None else None
        written: dict[Labels, float] = {(): newest.timestamp()} if newest is not None else {}
        yield _labelled("provision_api_keytab_timestamp_seconds", text, (), written)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _labelled(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for place, value in values.items():
        family.add_metric(place, float(value))
    return family


def _counter(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for place, value in values.items():
        family.add_metric(place, value)
    return family
