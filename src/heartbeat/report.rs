//! One sender in figures.
//!
//! Owns what the summary, the status page and the metrics say of it. Where there is no data there is
//! `null`; a loss is a ratio of counts with its 95 % interval.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::event::{Liveness, ns_or_null};
use super::loss::BeatCounts;
use super::sender_state::SenderState;
use crate::stats::Ratio;
use crate::time::{Moment, nanoseconds};

/// How many senders there are, and in which state.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct StateCounts {
    /// In any.
    pub total: usize,
    /// Heard in time.
    pub up: usize,
    /// A beat is overdue.
    pub late: usize,
    /// Given up.
    pub down: usize,
    /// Said goodbye.
    pub stopped: usize,
    /// Expected, and not heard yet.
    pub new: usize,
}

/// A sender.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SenderReport {
    /// Its name, or its address if it sends the textbook's beats.
    pub name: Arc<str>,
    /// How it is.
    pub state: Liveness,
    /// Whether it comes and goes.
    pub flapping: bool,
    /// Whether it is missed if it is never heard.
    pub expected: bool,
    /// Where it sends from.
    pub peer: Option<SocketAddr>,
    /// Since when it is in this state, in milliseconds since 1970.
    pub since_ms: u64,
    /// How long nothing was heard.
    #[serde(rename = "silent_ns", serialize_with = "ns_or_null")]
    pub silent: Option<Duration>,
    /// The number of its newest beat.
    pub last_seq: Option<u64>,
    /// What it promises.
    #[serde(rename = "interval_ns", serialize_with = "ns_or_null")]
    pub interval: Option<Duration>,
    /// After how many intervals it wants to be taken for down.
    pub multiplier: Option<u8>,
    /// How often it was started anew.
    pub restarts: u32,
    /// The exit code that its goodbye told.
    pub exit: Option<u8>,
    /// Its beats.
    #[serde(flatten)]
    pub counts: BeatCounts,
    /// Lost beats of all that were sent.
    pub loss: Option<f64>,
    /// Its 95 % interval.
    pub loss_ci95: Option<(f64, f64)>,
    /// The same of the newest 256 beats.
    pub window_loss: Option<f64>,
    /// How long the newest beat took, above the smallest delay there can have been.
    #[serde(rename = "delay_above_min_ns", serialize_with = "ns_or_null")]
    pub delay: Option<Duration>,
    /// The same of the newest beats, oldest first.
    #[serde(rename = "delays_above_min_ns", serialize_with = "all_ns")]
    pub delays: Vec<Duration>,
    /// RFC 3550 §6.4.1.
    #[serde(rename = "jitter_ns", serialize_with = "ns_or_null")]
    pub jitter: Option<Duration>,
    /// How much faster our clock runs than the sender's, in parts per million.
    pub skew_ppm: Option<f64>,
}

fn all_ns<S: Serializer>(times: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().copied().map(nanoseconds))
}

impl SenderState {
    /// The figures now.
    pub(crate) fn report(&self, now: Moment) -> SenderReport {
        let counts = *self.loss.counts();
        let loss = Ratio::new(counts.lost, counts.lost + counts.beats);
        let (missing, of) = self.loss.recent_loss();
        let promise = self.incarnation.and_then(|run| run.advertised_timing);
        SenderReport {
            name: Arc::clone(&self.name),
            state: self.liveness,
            flapping: self.flap_damping.is_flapping(),
            expected: self.is_expected,
            peer: self.incarnation.map(|run| run.peer),
            since_ms: u64::try_from(self.since.wall().as_millis()).unwrap_or(u64::MAX),
            silent: self.incarnation.map(|run| now - run.last_received),
            last_seq: self.incarnation.and_then(|run| run.restored_seq.or_else(|| self.loss.highest_seq())),
            interval: promise.map(|(interval, _)| interval),
            multiplier: promise.map(|(_, multiplier)| multiplier),
            restarts: self.restarts,
            exit: self.exit_code,
            counts,
            loss: loss.value(),
            loss_ci95: loss.wilson_interval95(),
            window_loss: Ratio::new(missing, of).value(),
            delay: self.delays.last(),
            delays: self.delays.recent().collect(),
            jitter: self.delays.jitter(),
            skew_ppm: self.delays.skew_ppm(),
        }
    }
}
