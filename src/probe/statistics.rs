//! Statistics of a ping run, for one target.
//!
//! Owns the figures as they appear in JSON; the command adds `type`, `command` and `target`. Figures without
//! data are `null`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::ledger::{Ledger, ProbeOutcome, RecentOutcomes};
use super::one_way::{OneWay, OneWayStatistics};
use crate::stats::{DurationSummary, JitterEstimator, Ratio, ReorderCounter, Series};
use crate::time::{Moment, Nanoseconds, OptionalNanoseconds};

/// Statistics of one target: `sent = received + late + lost + refused + send_errors + waiting`.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub(crate) struct PingStatistics {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub late: u64,
    pub refused: u64,
    pub send_errors: u64,
    /// In flight when the run ended or the snapshot was taken.
    pub waiting: u64,
    /// Duplicate replies.
    pub duplicates: u64,
    /// Replies that arrived after the reply to a later probe (RFC 4737); duplicates are not counted.
    pub reordered: u64,
    /// Replies whose content differs from the probe.
    pub corrupt: u64,
    /// Datagrams that match no probe.
    pub foreign: u64,
    /// Datagrams dropped because our receive buffer was full.
    pub local_drops: u64,
    /// (lost + late) / sent, of the transmitted probes whose timeout has passed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub loss: Option<f64>,
    /// 95 % confidence interval of `loss`.
    pub loss_ci95: Option<(f64, f64)>,
    /// Round-trip times of replies in time.
    pub rtt: Option<DurationSummary>,
    /// Round-trip times of late replies.
    pub late_rtt: Option<DurationSummary>,
    /// RFC 3550 §6.4.1 over replies in time, in order of arrival.
    #[serde(rename = "jitter_ns", with = "OptionalNanoseconds")]
    pub jitter: Option<Duration>,
    /// Clock used to measure the round-trip times.
    pub clock: Option<RttClocks>,
    /// Delay added by this host to each round trip, if kernel timestamps show it.
    pub host: Option<DurationSummary>,
    /// Time that this process was stalled and sent no probes; not part of `slip`.
    #[serde(rename = "paused_ns", with = "Nanoseconds")]
    pub paused: Duration,
    /// Delay of the probes behind the schedule.
    pub slip: Option<DurationSummary>,
    /// Round trips during which the wall clock was set.
    pub clock_steps: u64,
    /// One-way statistics, with STAMP.
    pub ways: Option<OneWayStatistics>,
}

/// Clocks used to measure a series of round-trip times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RttClocks {
    Kernel,
    Monotonic,
    Mixed,
}

impl RttClocks {
    /// Clocks used if `kernel` of `all` round trips have kernel timestamps; `None` without round trips.
    pub(crate) fn from_counts(kernel: u64, all: u64) -> Option<Self> {
        match kernel {
            _ if all == 0 => None,
            0 => Some(Self::Monotonic),
            _ if kernel == all => Some(Self::Kernel),
            _ => Some(Self::Mixed),
        }
    }
}

/// Datagrams received that answer no waiting probe.
#[derive(Default)]
pub(super) struct UnmatchedCounters {
    pub duplicates: u64,
    pub corrupt: u64,
    pub foreign: u64,
}

/// Counters and measurements besides the outcomes.
#[derive(Default)]
pub(super) struct Measurements {
    pub unmatched: UnmatchedCounters,
    pub local_drops: u64,
    pub clock_steps: u64,
    pub paused: Duration,
    pub kernel_timed: u64,
    pub rtt: Series,
    pub late_rtt: Series,
    pub host_delay: Series,
    pub slip: Series,
    pub jitter: JitterEstimator,
    pub reordering: ReorderCounter,
    pub one_way: OneWay,
}

impl Measurements {
    /// Combines the measurements with the outcomes of the ledger; one-way statistics only with `stamp`.
    pub(super) fn statistics(&self, ledger: &Ledger, now: Moment, stamp: bool) -> PingStatistics {
        let count = |outcome| ledger.count(outcome);
        let (lost, late) = (count(ProbeOutcome::Lost), count(ProbeOutcome::Late));
        // With probes in flight, loss covers only those whose timeout has passed: of the more recent ones the
        // replies are known but not the losses.
        let recent =
            if count(ProbeOutcome::Waiting) > 0 { ledger.recent_outcomes(now) } else { RecentOutcomes::default() };
        // A probe that was not sent cannot be lost; if all were refused, nothing was measured.
        let decided = count(ProbeOutcome::Answered) + late + lost - recent.answered - recent.late;
        let refused = if decided > 0 { count(ProbeOutcome::Refused) - recent.refused } else { 0 };
        let unanswered = Ratio::new(lost + late - recent.late, decided + refused);
        PingStatistics {
            sent: ledger.sent(),
            received: count(ProbeOutcome::Answered),
            lost,
            late,
            refused: count(ProbeOutcome::Refused),
            send_errors: count(ProbeOutcome::SendError),
            waiting: count(ProbeOutcome::Waiting),
            duplicates: self.unmatched.duplicates,
            reordered: self.reordering.reordered(),
            corrupt: self.unmatched.corrupt,
            foreign: self.unmatched.foreign,
            local_drops: self.local_drops,
            loss: unanswered.value(),
            loss_ci95: unanswered.wilson_interval95(),
            rtt: self.rtt.summary(),
            late_rtt: self.late_rtt.summary(),
            jitter: self.jitter.value(),
            clock: RttClocks::from_counts(self.kernel_timed, count(ProbeOutcome::Answered) + late),
            host: self.host_delay.summary(),
            paused: self.paused,
            slip: self.slip.summary(),
            clock_steps: self.clock_steps,
            ways: stamp.then(|| self.one_way.statistics(ledger.sent() - count(ProbeOutcome::Waiting), lost)),
        }
    }
}
