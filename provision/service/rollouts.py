"""Roll-outs: a new base image for some hosts at a time, as long as those that have it come up.

Nobody is rebooted: a host that was moved has the new base at its next boot. The next hosts are moved when all before
them have come up, and none when too many have not.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from provision.api import rollouts as api
from provision.boot import Boot, Role
from provision.errors import Conflict, NotFound, Problems
from provision.host import Host
from provision.principal import Principal
from provision.service import compatibility
from provision.service.acts import act
from provision.service.core import Core
from provision.site import Inventory
from provision.store.rollouts import Moved, Outcome, Rollout, RolloutState


class Rollouts:
    """Begins the one roll-out that there may be, drives it, and takes it back."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def start(self, order: api.StartRollout, principal: Principal) -> api.RolloutStatus:
        """Begin a roll-out, and move its first hosts.

        Raises NotFound for a base that is not there, Conflict while there is another, or no host to move, and Problems
        when the base does not fit a host.
        """
        core = self._core
        with core.lock:
            if (current := core.store.rollouts.current()) is not None:
                fact = f"one of '{current.base}' is {current.state}"
                raise Conflict("roll-out", fact, "end it: 'provision rollout rollback'")
            if order.base not in core.bases():
                raise NotFound(f"base image '{order.base}'", "does not exist", "see 'provision image list'")
            ((label, value),) = order.selector.items() or (("", ""),)
            limits = order.percent, order.max_failures, order.minutes
            made = Rollout(order.base, label, value, *limits, RolloutState.RUNNING, core.clock(), principal.name)
            left = self._left(made)
            if not left:
                raise Conflict("roll-out", f"no host would get '{order.base}' by it", "see 'provision host list'")
            self._require_fit(made, left)
            selector = f"{label}={value}" if label else None
            with core.act("rollout-started", principal, image=made.base, selector=selector, count=len(left)):
                core.store.rollouts.put(made)
            core.witness()
            self._step(made, principal)
            return self.status()

    def status(self) -> api.RolloutStatus:
        """How far the roll-out is; raises NotFound when there is none."""
        current, moved = self._current(), self._core.store.rollouts.hosts()
        return api.RolloutStatus(
            base=current.base,
            selector={current.label: current.value} if current.label else {},
            percent=current.percent,
            max_failures=current.failures,
            minutes=current.minutes,
            state=current.state,
            started=current.started.isoformat(),
            by=current.actor,
            left=len(self._left(current)),
            hosts=tuple(
                api.RolloutHost(host=name, moved=one.at.isoformat(), outcome=one.outcome)
                for name, one in sorted(moved.items())
            ),
        )

    def pause(self, principal: Principal) -> api.RolloutStatus:
        """Move no more hosts. Raises NotFound, and Conflict unless it is running."""
        core = self._core
        with core.lock:
            current = self._require(RolloutState.RUNNING)
            with core.act("rollout-paused", principal, image=current.base):
                core.store.rollouts.put(replace(current, state=RolloutState.PAUSED))
            core.witness()
            return self.status()

    def go_on(self, principal: Principal) -> api.RolloutStatus:
        """Go on: hosts that have failed until now are taken as they are. Raises NotFound, and Conflict while it runs or
        when it is done."""
        core = self._core
        with core.lock:
            current = self._require(RolloutState.PAUSED, RolloutState.STOPPED)
            failed = self._count(Outcome.FAILED) if current.state is RolloutState.STOPPED else 0
            going = replace(current, state=RolloutState.RUNNING, failures=max(current.failures, failed))
            with core.act("rollout-continued", principal, image=current.base):
                core.store.rollouts.put(going)
            core.witness()
            return self.status()

    def _require(self, *states: RolloutState) -> Rollout:
        """The roll-out when it is in one of these states; raises NotFound and Conflict."""
        current = self._current()
        if current.state not in states:
            raise Conflict("roll-out", f"is {current.state}", "see 'provision rollout status'")
        return current

    def roll_back(self, principal: Principal) -> api.RolledBack:
        """Give every host the base that the inventory says, and end the roll-out. Raises NotFound."""
        core = self._core
        with core.lock:
            current = self._current()
            self._settle(current)
            moved = core.store.rollouts.hosts()
            with core.act("rollout-rolled-back", principal, image=current.base, count=len(moved)):
                core.store.rollouts.end()
            core.witness()
        booted = tuple(name for name, one in sorted(moved.items()) if one.outcome is Outcome.UP)
        return api.RolledBack(base=current.base, hosts=len(moved), booted=booted)

    def look(self) -> None:
        """See what came of the hosts that were moved, and go on, stop or end. Raises Unavailable."""
        core = self._core
        with core.lock:
            current = core.store.rollouts.current()
            if current is None or core.store.database.distrust:
                return
            self._settle(current)
            failed, pending = self._count(Outcome.FAILED), self._count(Outcome.PENDING)
            if current.state is RolloutState.DONE:
                self._end_when_applied(current)
            elif current.state is RolloutState.RUNNING and (
                failed > current.failures or current.base not in core.bases()
            ):
                with core.act("rollout-stopped", None, image=current.base, count=failed):
                    core.store.rollouts.put(replace(current, state=RolloutState.STOPPED))
            elif current.state is RolloutState.RUNNING and not pending and self._left(current):
                self._step(current, None)
            elif current.state is RolloutState.RUNNING and not pending:
                with core.act("rollout-done", None, image=current.base, count=self._count(Outcome.UP)):
                    core.store.rollouts.put(replace(current, state=RolloutState.DONE))
            core.witness()

    def _end_when_applied(self, current: Rollout) -> None:
        """The inventory says by now what the roll-out has done."""
        core, site = self._core, self._core.site
        moved = [core.hosts[name] for name in core.store.rollouts.hosts()]
        if all((host.base or site.base) == current.base for host in moved):
            with core.act("rollout-ended", None, image=current.base, count=len(moved)):
                core.store.rollouts.end()
            core.witness()

    def _step(self, current: Rollout, principal: Principal | None) -> None:
        """Move the next hosts."""
        core, left = self._core, self._left(current)
        total = len(left) + len(core.store.rollouts.hosts())
        names = [host.name for host in left[: max(1, -(-total * current.percent // 100))]]
        entries = [{"host": name, "image": current.base} for name in names]
        with act(core.audit, core.clock, "rollout-moved", principal, entries):
            core.store.rollouts.move(names, core.clock())
        core.witness()

    def _left(self, rollout: Rollout) -> list[Host]:
        """The hosts that would get its base and do not have it, in the order in which they are moved: any order does,
        but it is always the same one."""
        snapshot = self._core.store.snapshot
        hosts = [host for host in snapshot.hosts.values() if snapshot.base_name(host) != rollout.base]
        mine = [host for host in hosts if not rollout.label or host.labels.get(rollout.label) == rollout.value]
        return sorted(mine, key=lambda host: hashlib.sha256(f"{rollout.base} {host.name}".encode()).digest())

    def _require_fit(self, rollout: Rollout, hosts: list[Host]) -> None:
        moved = tuple(host.model_copy(update={"base": rollout.base}) for host in hosts)
        sealed = self._core.store.credentials.places()
        if problems := compatibility.problems(self._core, Inventory(site=self._core.site, hosts=moved), sealed):
            raise Problems(problems)

    def _settle(self, current: Rollout) -> None:
        """Write down what came of those of which nothing was known."""
        pending = {n: m for n, m in self._core.store.rollouts.hosts().items() if m.outcome is Outcome.PENDING}
        outcomes = {name: self._outcome(name, moved, current) for name, moved in pending.items()}
        if known := {name: one for name, one in outcomes.items() if one is not Outcome.PENDING}:
            self._core.store.rollouts.settle(known)
            self._core.witness()

    def _outcome(self, name: str, moved: Moved, current: Rollout) -> Outcome:
        identity, now = self._core.state(name).identity, self._core.clock()
        copies = {link.copy for link in self._core.store.links.all() if (link.host, link.identity) == (name, identity)}
        own = [
            boot
            for boot in self._core.store.boots.of(name)
            if boot.started >= moved.at and boot.seed_revision in {identity, identity[:32], *copies}
        ]
        if any(boot.up is not None for boot in own):
            return Outcome.UP
        late = any(self._is_late(boot, now, current.minutes) for boot in own)
        return Outcome.FAILED if late else Outcome.PENDING

    def _is_late(self, boot: Boot, now: datetime, minutes: int) -> bool:
        """Whether it should have come up. On a general network nobody says that they have."""
        network = self._core.site.networks.get(boot.network)
        speaks = network is not None and network.role is Role.MANAGEMENT
        return speaks and now - boot.started >= timedelta(minutes=minutes)

    def _count(self, outcome: Outcome) -> int:
        return sum(moved.outcome is outcome for moved in self._core.store.rollouts.hosts().values())

    def _current(self) -> Rollout:
        current = self._core.store.rollouts.current()
        if current is None:
            raise NotFound("roll-out", "there is none", "begin one: 'provision rollout start BASE'")
        return current
