"""The pace of a batch: how fast requests may be sent, learned from the requests that are refused.

A request that is refused does not always mean that the pace is too high: gateways and replicas
refuse a part of all requests at random. So the pace is lowered as an experiment:

               few are refused: grow the rate, doubling the growth
                  +----------+
                  v          |
    start --> [ MEASURE ] ---+
                  |  more are refused than usual
                  v
              [  TRIAL  ]  send only at the rate that was admitted
                  |
                  +-- fewer are refused ----> a limit of the rate: keep the admitted rate
                  +-- as many are refused --> noise: back to the earlier rate
                  +-- all are refused ------> a limit of the requests in flight: keep those that
                                              were admitted; with none in flight the provider is
                                              away: send one request (a probe) at a time, until
                                              one is admitted

An epoch is the time in which the requests of one experiment are sent. Its result is read a little
later, when the refusals of its last requests have had the time to arrive. Answers take longer than
refusals, so a request counts as admitted if it has not been refused after that time.
"""

from collections import deque
from dataclasses import dataclass, replace
from math import inf, sqrt


@dataclass(frozen=True, slots=True)
class PaceConstants:
    """The constants of the algorithm.

    Attributes:
        epoch_seconds: Minimum length of an epoch.
        epoch_requests: Minimum number of requests of an epoch.
        max_epoch_seconds: Length after which an epoch of `few_requests` ends, too.
        few_requests: See `max_epoch_seconds`.
        tolerance: The share of refused requests, beyond the usual one, that lowers the pace.
        min_refused: Refused requests of an epoch without which the pace is not lowered.
        trial_refused: Expected refusals of a trial at the old share; it sets the trial's length.
        max_usual_share: A larger share is no noise before `max_steps` trials could not lower it.
        max_steps: See `max_usual_share`.
        significance: Standard errors by which a share must fall to be no chance.
        usual_requests: Requests that the usual share is an average of.
        all_refused: A share of refused requests that counts as all of them.
        first_growth: Growth of the rate in the first epoch without many refusals; it doubles.
        max_growth: Maximum growth in one epoch.
        first_settle_seconds: The time that refusals take, before one was seen.
        max_settle_seconds: Maximum time to wait for the refusals of an epoch.
        probe_seconds: Time between the first two probes; it doubles.
        max_probe_seconds: Maximum time between two probes.
        restart_rate: Requests a second after a probe was admitted; the growth is `max_growth`.
        min_rate: Requests a second that the rate does not fall below.
        burst_seconds: Seconds' worth of requests that may be sent at once.
    """

    epoch_seconds: float = 0.25
    epoch_requests: int = 16
    max_epoch_seconds: float = 8.0
    few_requests: int = 12
    tolerance: float = 0.05
    min_refused: int = 3
    trial_refused: float = 8.0
    max_usual_share: float = 0.5
    max_steps: int = 3
    significance: float = 2.0
    usual_requests: float = 400.0
    all_refused: float = 0.9
    first_growth: float = 0.1
    max_growth: float = 1.0
    first_settle_seconds: float = 0.05
    max_settle_seconds: float = 5.0
    probe_seconds: float = 0.5
    max_probe_seconds: float = 5.0
    restart_rate: float = 16.0
    min_rate: float = 1 / 60
    burst_seconds: float = 0.05


CONSTANTS = PaceConstants()


@dataclass(slots=True)
class Epoch:
    """One measurement of the pace: its time, and how many requests were sent and refused.

    Attributes:
        started: When it began; seconds of the clock.
        ended: When its last request was sent; infinite while it lasts.
        sent: Its requests.
        refused: Those of them that were refused.
        sending_seconds: The time in which there were requests to send.
        is_full: As many requests were sent as the rate allowed, at some time.
    """

    started: float
    ended: float = inf
    sent: int = 0
    refused: int = 0
    sending_seconds: float = 0.0
    is_full: bool = False

    @property
    def share(self) -> float:
        """The part of the requests that was refused, from 0 to 1."""
        return self.refused / self.sent if self.sent else 0.0

    @property
    def admitted_rate(self) -> float:
        """Requests per second that were not refused."""
        return (self.sent - self.refused) / max(self.sending_seconds, 1e-3)


@dataclass(slots=True)
class Trial:
    """A lowered pace, with the epoch and the rate before it.

    Attributes:
        epoch: The epoch in which too many requests were refused.
        rate: The rate of that epoch; None was no limit.
        steps: The trials in a row that have not lowered the share.
    """

    epoch: Epoch
    rate: float | None
    steps: int = 1


class Pace:
    """The learned pace of a batch; not thread-safe. All times are seconds of one monotonic clock.

    Args:
        jobs: Maximum requests in flight.
        now: The present time.

    Attributes:
        rate: Requests per second; None means no limit.
        window: Requests in flight.
        is_probing: True while the provider refuses every request, so that only probes are sent.
        usual_share: The part of the requests that is refused at any pace.
    """

    def __init__(self, jobs: int, now: float) -> None:
        self.jobs = jobs
        self.rate: float | None = None
        self.window = float(jobs)
        self.is_probing = False
        self.usual_share = 0.0
        self._growth = CONSTANTS.first_growth
        self._settle = CONSTANTS.first_settle_seconds
        self._epoch = Epoch(now)
        self._trial: Trial | None = None
        self._next_at = now
        self._sent_at = now
        self._pending: deque[float] = deque()
        self._probe_wait = CONSTANTS.probe_seconds
        self._probe_sent_at: float | None = None
        self._is_window_learned = False

    def delay(self, now: float, in_flight: int) -> float | None:
        """Return the seconds until a request may be sent; None while too many are in flight."""
        self._advance(now, in_flight)
        if self.is_probing:
            if self._probe_sent_at is not None:
                return max(self._probe_sent_at + self._settle - now, 1e-3)
            return max(self._next_at - now, 0.0)
        if in_flight >= max(int(self.window), 1):
            return None
        if self._is_window_learned and not in_flight:
            self._close(now)
            return 0.0
        if self.rate is None:
            return 0.0
        delay = self._next_at - now
        if delay > 0:
            self._epoch.is_full = True
        return max(delay, 0.0)

    def seconds_to_probe(self, now: float) -> float:
        """Return the seconds until the next probe; 0 if requests are sent as usual."""
        return max(self._next_at - now, 0.0) if self.is_probing else 0.0

    def on_sent(self, now: float) -> None:
        """Count a request that is sent."""
        self._pending.append(now)
        if self.is_probing:
            self._probe_sent_at = now
            return
        if self._epoch.ended == inf:
            self._epoch.sent += 1
            self._epoch.sending_seconds += min(now - self._sent_at, self._longest_gap())
        self._sent_at = now
        if self.rate is not None:
            burst = CONSTANTS.burst_seconds
            self._next_at = max(self._next_at, now - burst) + 1 / self.rate

    def _longest_gap(self) -> float:
        """Return the seconds between two requests beyond which there was nothing to send."""
        return max(CONSTANTS.epoch_seconds, 2 / self.rate if self.rate else 0.0)

    def on_refused(self, now: float, sent_at: float) -> None:
        """Count a request that was sent at `sent_at` and is refused now."""
        took = min(2 * (now - sent_at), CONSTANTS.max_settle_seconds)
        self._settle = max(took, 0.9 * self._settle, CONSTANTS.first_settle_seconds)
        epoch = self._epoch
        if epoch.started <= sent_at < epoch.ended and epoch.refused < epoch.sent:
            epoch.refused += 1
        if self.is_probing and self._probe_sent_at is not None and sent_at >= self._probe_sent_at:
            self._probe_sent_at = None
            self._next_at = now + self._probe_wait
            self._probe_wait = min(2 * self._probe_wait, CONSTANTS.max_probe_seconds)

    def _advance(self, now: float, in_flight: int) -> None:
        """End the epoch, or read its result, if its time has come."""
        if self.is_probing:
            if self._probe_sent_at is not None and now >= self._probe_sent_at + self._settle:
                self._open(now)
            return
        epoch = self._epoch
        if epoch.ended == inf:
            seconds = now - epoch.started
            is_long = seconds >= CONSTANTS.epoch_seconds and epoch.sent >= self._min_requests()
            is_over = (
                seconds >= CONSTANTS.max_epoch_seconds and epoch.sent >= CONSTANTS.few_requests
            )
            if is_long or is_over:
                epoch.ended = now
        elif now >= epoch.ended + self._settle:
            self._read_result(epoch, now, in_flight)

    def _min_requests(self) -> float:
        """Return the requests of the present epoch without which its result is chance."""
        if self._trial is None:
            return CONSTANTS.epoch_requests
        return max(CONSTANTS.epoch_requests, CONSTANTS.trial_refused / self._trial.epoch.share)

    def _read_result(self, epoch: Epoch, now: float, in_flight: int) -> None:
        while self._pending and self._pending[0] <= now - self._settle:
            self._pending.popleft()
        admitted = max(in_flight - len(self._pending), 0)
        if self._trial is not None:
            self._end_trial(self._trial, epoch, admitted, now)
        elif self._is_refused_often(epoch):
            self._growth = CONSTANTS.first_growth
            if epoch.refused == epoch.sent:
                self._keep_admitted(admitted, now)
            else:
                self._try_lower_rate(epoch, now)
        else:
            self._lower_usual_share(epoch)
            self._grow(epoch)
        if not self.is_probing:
            self._epoch = Epoch(now)

    def _is_refused_often(self, epoch: Epoch) -> bool:
        usual = self.usual_share
        noise = 2 * sqrt(usual * (1 - usual) / epoch.sent)
        limit = usual + max(CONSTANTS.tolerance, noise)
        return epoch.refused >= CONSTANTS.min_refused and epoch.share > limit

    def _end_trial(self, trial: Trial, epoch: Epoch, admitted: int, now: float) -> None:
        """Compare the refusals at the lower pace with those before.

        Args:
            trial: The trial.
            epoch: Its epoch.
            admitted: Requests in flight that were admitted.
            now: The present time.
        """
        self._trial = None
        if self._has_fallen(trial.epoch, epoch):
            self.usual_share = min(self.usual_share, epoch.share)
            if self._is_refused_often(epoch):
                self._try_lower_rate(epoch, now)
        elif epoch.share >= CONSTANTS.all_refused:
            self.rate = trial.rate
            self._keep_admitted(admitted, now)
        elif epoch.share > CONSTANTS.max_usual_share and trial.steps < CONSTANTS.max_steps:
            self.set_rate(max(epoch.admitted_rate, (self.rate or 0) / 4), now)
            self._trial = replace(trial, steps=trial.steps + 1)
        else:
            self.rate = trial.rate
            refused, sent = trial.epoch.refused + epoch.refused, trial.epoch.sent + epoch.sent
            self.usual_share = max(self.usual_share, refused / sent)

    def _has_fallen(self, before: Epoch, after: Epoch) -> bool:
        """Return True if the share has fallen by more than chance (two-proportion z-test)."""
        share = (before.refused + after.refused) / (before.sent + after.sent)
        error = sqrt(share * (1 - share) * (1 / before.sent + 1 / after.sent))
        return before.share - after.share > CONSTANTS.significance * error

    def _try_lower_rate(self, epoch: Epoch, now: float) -> None:
        self._trial = Trial(epoch, self.rate)
        self.set_rate(epoch.admitted_rate, now)

    def _keep_admitted(self, admitted: int, now: float) -> None:
        """Allow only as many requests in flight as were admitted; without any, send probes."""
        if admitted:
            self.window = float(admitted)
            self._is_window_learned = True
        else:
            self._close(now)

    def _lower_usual_share(self, epoch: Epoch) -> None:
        if epoch.share < self.usual_share:
            weight = epoch.sent / (epoch.sent + CONSTANTS.usual_requests)
            self.usual_share += (epoch.share - self.usual_share) * weight

    def _grow(self, epoch: Epoch) -> None:
        if self.rate is not None and epoch.is_full:
            self.rate *= 1 + self._growth
        elif self.window < self.jobs:
            self.window = min(self.window + max(self.window * self._growth, 1.0), self.jobs)
        else:
            return
        self._growth = min(2 * self._growth, CONSTANTS.max_growth)

    def set_rate(self, rate: float, now: float) -> None:
        """Send at this rate from now on, in requests per second."""
        self.rate = max(rate, CONSTANTS.min_rate)
        self._next_at = now

    def _close(self, now: float) -> None:
        self.is_probing = True
        self._is_window_learned = False
        self._trial = None
        self.window = float(self.jobs)
        self._probe_wait = CONSTANTS.probe_seconds
        self._next_at = now + self._probe_wait
        self._probe_sent_at = None

    def _open(self, now: float) -> None:
        self.is_probing = False
        self.set_rate(CONSTANTS.restart_rate, now)
        self._growth = CONSTANTS.max_growth
        self._epoch = Epoch(now)
