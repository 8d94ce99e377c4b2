"""The whole service over one state directory, as the web, TFTP and the command line use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

from provision import clock as clocks
from provision.clock import Clock
from provision.service import compatibility
from provision.service.arrivals import Arrivals
from provision.service.auditing import Auditing
from provision.service.batches import Batches
from provision.service.bindings import Bindings
from provision.service.bmc_boots import BmcBoots, Parts
from provision.service.bmcs import Bmcs
from provision.service.compromises import Compromises
from provision.service.core import Core
from provision.service.credentials import Credentials
from provision.service.decommissions import Decommissions
from provision.service.envelopes import Envelopes
from provision.service.expiries import Expiries
from provision.service.exports import Exports
from provision.service.images import Images
from provision.service.inventory import Inventories
from provision.service.links import Links
from provision.service.listeners import Listeners
from provision.service.logins import Logins
from provision.service.media import Media
from provision.service.media_builder import MediaBuilder
from provision.service.moves import Moves
from provision.service.netboot import Netboot
from provision.service.openings import Openings
from provision.service.operations import Operations
from provision.service.overview import Overview
from provision.service.progress import Tracker
from provision.service.proving import Proving
from provision.service.readiness import Readiness
from provision.service.rollouts import Rollouts
from provision.service.secure_boot import SecureBoot
from provision.service.selections import Selections
from provision.service.sessions import Sessions
from provision.service.site_keys import SiteKeys
from provision.service.status import Reports
from provision.service.stuck import Stuck
from provision.service.tickets import Tickets
from provision.service.tokens import Tokens
from provision.service.tpm_explanations import TpmExplanations
from provision.service.tpms import Tpms
from provision.service.updates import Parts as Updating
from provision.service.updates import Updates
from provision.service.webhooks import Receiver, Webhooks
from provision.service.windows import Windows
from provision.settings import Settings
from provision.site_key import KeyUse

if TYPE_CHECKING:
    from provision.service.metrics import Metrics


class Service:
    """Everything over one open `Core`."""

    def __init__(self, core: Core) -> None:
        self.core = core
        tracker, builder = Tracker(), MediaBuilder(core)
        self.operations = Operations(core)
        self.inventories = Inventories(core, builder)
        self.credentials, self.moves = Credentials(core), Moves(core, self.inventories)
        self.images = Images(core, self.operations)
        self.windows, self.auditing = Windows(core), Auditing(core)
        self.media = Media(core, builder, self.operations)
        self.links = Links(core, builder)
        self.reports = Reports(core, tracker, builder.is_current, partial(compatibility.unsigned, core))
        self.overview = Overview(core, self.reports)
        self.exports = Exports(core, builder)
        self.tokens, self.logins = Tokens(core), Logins(core)
        self.site_keys, self.tpms, self.openings = SiteKeys(core), Tpms(core), Openings(core)
        self.secure_boot = SecureBoot(core, self.site_keys, builder.signed.images)
        kerberos = core.settings.api.kerberos if core.settings.api is not None else None
        self.tickets = Tickets(core, self.logins, kerberos) if kerberos is not None else None
        self.sessions = Sessions(core, self.logins)
        self.bmcs = Bmcs(core, self.operations)
        arrivals = Arrivals(core, self.openings)
        parts = Parts(core, self.bmcs, self.links, self.windows, self.reports, lambda: self.listeners(), arrivals)
        self.bmc_boots = BmcBoots(parts, self.operations)
        self.selections = Selections(parts, self.bmc_boots, self.operations)
        self.batches = Batches(core, self.operations)
        self.compromises = Compromises(core, self.operations)
        self.decommissions = Decommissions(core, self.windows, self.compromises)
        self.expiries = Expiries(core, lambda: self.listeners())
        self.receivers: Callable[[], Mapping[str, Receiver]] = dict
        self.webhooks = Webhooks(core, lambda: self.receivers())
        self.stuck, self.rollouts = Stuck(core, tracker), Rollouts(core)
        builder.signing_keys = lambda: self.site_keys.trusted(KeyUse.SIGNING)
        self.bindings = Bindings(core, builder)
        self.envelopes = Envelopes(core, self.bindings, self.site_keys)
        self.updates = Updates(Updating(core, tracker, self.site_keys, builder))
        self.proving = Proving(core, self.bindings, self.envelopes)
        self.netboot = Netboot(core, builder, tracker, self.proving, self.updates, self.openings)
        self.tpm_explanations = TpmExplanations(core, self.bindings, self.openings, self.proving)
        self.listeners: Listeners = dict
        self.readiness = Readiness(core, lambda: self.listeners())

    @classmethod
    def open(cls, settings: Settings, clock: Clock = clocks.now, *, brief: bool = False) -> Self:
        """Open the state directory; raises Conflict while another process has it, Unavailable when it is broken.

        `brief` is for a process that gives one answer and ends.
        """
        return cls(Core.open(settings, clock, brief=brief))

    @cached_property
    def metrics(self) -> Metrics:
        """What a monitoring system is told."""
        # Few processes are asked for them, and the library takes as long to load as a short command to run.
        from provision.service.metrics import Metrics

        return Metrics(self.core, lambda: self.listeners(), self.expiries, self.tickets)

    def close(self) -> None:
        """End what is under way, and let go of the state directory."""
        self.batches.stop()
        self.operations.stop()
        self.core.close()
