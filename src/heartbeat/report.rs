//! Report of one sender for the summary, the status page and the metrics.
//!
//! Missing data is `null`. Loss is a ratio of counts with its 95 % confidence interval.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::event::SenderStatus;
use super::loss::BeatCounts;
use super::sender_state::SenderState;
use crate::stats::Ratio;
use crate::time::{Moment, OptionalNanoseconds, nanoseconds};

/// Number of senders in each state.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
pub(crate) struct StateCounts {
    pub total: usize,
    pub up: usize,
    pub late: usize,
    pub down: usize,
    pub stopped: usize,
    pub new: usize,
}

/// State, counts and delays of one sender.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub(crate) struct SenderReport {
    /// Name, or the address of a sender of textbook beats.
    pub name: Arc<str>,
    pub state: SenderStatus,
    pub flapping: bool,
    /// Whether `--expect` names this sender.
    pub expected: bool,
    pub peer: Option<SocketAddr>,
    /// Time of the last state change, in milliseconds since 1970.
    pub since_ms: u64,
    /// Time since the last beat.
    #[serde(rename = "silent_ns", with = "OptionalNanoseconds")]
    pub silent: Option<Duration>,
    pub last_seq: Option<u64>,
    /// Heartbeat interval that the sender announces.
    #[serde(rename = "interval_ns", with = "OptionalNanoseconds")]
    pub interval: Option<Duration>,
    /// Announced number of missed intervals after which the sender is down.
    pub multiplier: Option<u8>,
    pub restarts: u32,
    /// Exit code from the stop message.
    pub exit: Option<u8>,
    #[serde(flatten)]
    pub counts: BeatCounts,
    /// Share of lost beats among all beats sent.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub loss: Option<f64>,
    /// 95 % confidence interval of `loss`.
    pub loss_ci95: Option<(f64, f64)>,
    /// Loss among the newest 256 beats.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub window_loss: Option<f64>,
    /// Delay of the newest beat above the estimated minimum.
    #[serde(rename = "delay_above_min_ns", with = "OptionalNanoseconds")]
    pub delay: Option<Duration>,
    /// Delays of the newest beats above the estimated minimum, oldest first.
    #[serde(rename = "delays_above_min_ns", serialize_with = "serialize_all_ns")]
    #[schemars(with = "Vec<u64>")]
    pub delays: Vec<Duration>,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    #[serde(rename = "jitter_ns", with = "OptionalNanoseconds")]
    pub jitter: Option<Duration>,
    /// Rate of our clock relative to the sender's, in parts per million; positive if ours is faster.
    pub skew_ppm: Option<f64>,
}

fn serialize_all_ns<S: Serializer>(times: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().copied().map(nanoseconds))
}

impl SenderState {
    pub(crate) fn report(&self, now: Moment) -> SenderReport {
        let counts = *self.loss.counts();
        let loss = Ratio::new(counts.lost, counts.lost + counts.beats);
        let (missing, of) = self.loss.recent_loss();
        let timing = self.incarnation.and_then(|run| run.advertised_timing);
        SenderReport {
            name: Arc::clone(&self.name),
            state: self.liveness,
            flapping: self.reporting.flap_damping.is_flapping(),
            expected: self.is_expected,
            peer: self.incarnation.map(|run| run.peer),
            since_ms: u64::try_from(self.since.wall().as_millis()).unwrap_or(u64::MAX),
            silent: self.incarnation.map(|run| now - run.last_received),
            last_seq: self.incarnation.and_then(|run| run.restored_seq.or_else(|| self.loss.highest_seq())),
            interval: timing.map(|(interval, _)| interval),
            multiplier: timing.map(|(_, multiplier)| multiplier),
            restarts: self.restarts,
            exit: self.exit_code,
            counts,
            loss: loss.value(),
            loss_ci95: loss.wilson_interval95(),
            window_loss: Ratio::new(missing, of).value(),
            delay: self.arrivals.delays.last(),
            delays: self.arrivals.delays.recent().collect(),
            jitter: self.arrivals.delays.jitter(),
            skew_ppm: self.arrivals.delays.skew_ppm(),
        }
    }
}
