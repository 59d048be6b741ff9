//! The summary of a pinger.
//!
//! Owns the figures of one target as they appear in JSON; `type`, `command` and `target` are put
//! before them by the command. Where there is no data there is `null`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::ledger::{InFlight, Ledger, ProbeOutcome};
use super::one_way::{OneWay, OneWayStatistics};
use crate::stats::{DurationSummary, JitterEstimator, Ratio, ReorderCounter, Series};
use crate::time::{Moment, nanoseconds, serialize_ns};

/// One target in figures: `sent = received + late + lost + refused + send_errors + waiting`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PingStatistics {
    /// Probes begun.
    pub sent: u64,
    /// Answered in time.
    pub received: u64,
    /// Not answered.
    pub lost: u64,
    /// Answered too late.
    pub late: u64,
    /// Refused by the network.
    pub refused: u64,
    /// Not sent by the system.
    pub send_errors: u64,
    /// Still on the way when the run was ended, or in a snapshot.
    pub waiting: u64,
    /// Further answers to one probe.
    pub duplicates: u64,
    /// First answers that came after one to a later probe (RFC 4737).
    pub reordered: u64,
    /// Damaged answers.
    pub corrupt: u64,
    /// Datagrams that were no answers.
    pub foreign: u64,
    /// Datagrams that found no room in our own receive buffer.
    pub local_drops: u64,
    /// (lost + late) / sent, of the probes that left and whose time is over.
    pub loss: Option<f64>,
    /// Its 95 % interval.
    pub loss_ci95: Option<(f64, f64)>,
    /// The round trips of answers in time.
    pub rtt: Option<DurationSummary>,
    /// The round trips of late answers.
    pub late_rtt: Option<DurationSummary>,
    /// RFC 3550 §6.4.1 over answers in time, in the order they came.
    #[serde(rename = "jitter_ns", serialize_with = "ns_or_null")]
    pub jitter: Option<Duration>,
    /// By which clock the round trips were taken.
    pub clock: Option<RttClocks>,
    /// What this host added to each round trip, where the kernel's stamps show it.
    pub host: Option<DurationSummary>,
    /// For how long this process did not run, so that probes were not sent; not part of `slip`.
    #[serde(rename = "paused_ns", serialize_with = "serialize_ns")]
    pub paused: Duration,
    /// How far behind the schedule probes were sent.
    pub slip: Option<DurationSummary>,
    /// Probes during which the wall clock was set.
    pub clock_steps: u64,
    /// Each way by itself, with STAMP.
    pub ways: Option<OneWayStatistics>,
}

/// The clocks behind a series of round trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RttClocks {
    /// The kernel's stamps, for every one.
    Kernel,
    /// Our monotonic clock, for every one.
    Monotonic,
    /// Some by the one, some by the other.
    Mixed,
}

impl RttClocks {
    /// The word for `kernel` of `all` round trips; none for none.
    pub(crate) fn from_counts(kernel: u64, all: u64) -> Option<Self> {
        match kernel {
            _ if all == 0 => None,
            0 => Some(Self::Monotonic),
            _ if kernel == all => Some(Self::Kernel),
            _ => Some(Self::Mixed),
        }
    }
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn ns_or_null<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(nanoseconds).serialize(serializer)
}

/// What is counted and measured beside the outcomes.
#[derive(Default)]
pub(super) struct Measurements {
    pub duplicates: u64,
    pub corrupt: u64,
    pub foreign: u64,
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
    /// The figures with the outcomes in the ledger; each way by itself only with STAMP.
    pub(super) fn statistics(&self, ledger: &Ledger, now: Moment, stamp: bool) -> PingStatistics {
        let count = |outcome| ledger.count(outcome);
        let (lost, late) = (count(ProbeOutcome::Lost), count(ProbeOutcome::Late));
        // While some are on their way, only those whose time is over can be judged: of the younger
        // ones the answers are known and the losses are not.
        let young = if count(ProbeOutcome::Waiting) > 0 { ledger.in_flight(now) } else { InFlight::default() };
        // One that never left cannot be lost; where all were refused, nothing was tried.
        let judged = count(ProbeOutcome::Answered) + late + lost - young.answered - young.late;
        let refused = if judged > 0 { count(ProbeOutcome::Refused) - young.refused } else { 0 };
        let unanswered = Ratio::new(lost + late - young.late, judged + refused);
        PingStatistics {
            sent: ledger.sent(),
            received: count(ProbeOutcome::Answered),
            lost,
            late,
            refused: count(ProbeOutcome::Refused),
            send_errors: count(ProbeOutcome::SendError),
            waiting: count(ProbeOutcome::Waiting),
            duplicates: self.duplicates,
            reordered: self.reordering.reordered(),
            corrupt: self.corrupt,
            foreign: self.foreign,
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
