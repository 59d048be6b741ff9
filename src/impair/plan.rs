//! Plan: decisions without a network.
//!
//! Owns the output of `--plan N`: the decisions on the first datagrams of a client. A queue depends on
//! arrival times, which a plan cannot know, so the rate is left out.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::network_path::Impairment;
use super::verdict::{CopyOutcome, DropReason, PathEffects};
use crate::time::{Moment, Nanoseconds};

impl Impairment {
    /// Returns the decisions on the first `count` datagrams of a client.
    pub(crate) fn plan(&self, client: u32, count: u64) -> impl Iterator<Item = PlannedDatagram> {
        let without_rate = Self { rate: None, ..self.clone() };
        let mut path = without_rate.path_state(client);
        let start = Moment::new(Duration::ZERO, Duration::ZERO);
        (0..count).map(move |_| {
            let verdict = without_rate.decide(&mut path, start, 0);
            PlannedDatagram {
                number: verdict.ordinal(),
                dropped: verdict.drop_reason(),
                copies: verdict.copies().filter_map(PlannedCopy::from_outcome).collect(),
            }
        })
    }
}

/// Decision on one datagram.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(tag = "type", rename = "planned")]
pub(crate) struct PlannedDatagram {
    /// Ordinal of the datagram among those of its client, from 1.
    pub number: u64,
    /// Reason, if no copy is delivered.
    pub dropped: Option<DropReason>,
    /// Delivered copies: none, one or more.
    pub copies: Vec<PlannedCopy>,
}

/// Copy that is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub(crate) struct PlannedCopy {
    /// Total delay in both directions.
    #[serde(rename = "delay_ns", with = "Nanoseconds")]
    pub delay: Duration,
    pub corrupt: bool,
}

impl PlannedCopy {
    fn from_outcome(outcome: CopyOutcome) -> Option<Self> {
        match outcome {
            CopyOutcome::Dropped(_) => None,
            CopyOutcome::Delivered(PathEffects { inbound, outbound }) => Some(Self {
                delay: inbound.delay.saturating_add(outbound.delay),
                corrupt: inbound.bit_flip.is_some() || outbound.bit_flip.is_some(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PlannedCopy, PlannedDatagram};
    use crate::impair::{BitRate, DropReason, Impairment, LossModel};
    use crate::time::Moment;
    use std::time::Duration;

    #[test]
    fn the_plan_matches_the_decisions() {
        let impairment = Impairment { loss: LossModel::textbook(), ..Impairment::none(7) };
        let mut path = impairment.path_state(3);
        let mut now = Moment::new(Duration::from_secs(9), Duration::ZERO);
        for planned in impairment.plan(3, 500) {
            now = now + Duration::from_millis(planned.number % 13);
            let verdict = impairment.decide(&mut path, now, 1_400);
            assert_eq!(planned.number, verdict.ordinal());
            assert_eq!(planned.dropped, verdict.drop_reason());
        }
    }

    #[test]
    fn a_plan_has_one_decision_per_datagram_and_no_queue() {
        let impairment = Impairment {
            loss: "list:2".parse().expect("a model"),
            rate: BitRate::from_bits_per_second(1),
            delay: Duration::from_millis(20),
            ..Impairment::none(1)
        };
        let plan: Vec<_> = impairment.plan(1, 2).collect();
        let copy = PlannedCopy { delay: Duration::from_millis(20), corrupt: false };
        assert_eq!(plan[0], PlannedDatagram { number: 1, dropped: None, copies: vec![copy] });
        assert_eq!(plan[1], PlannedDatagram { number: 2, dropped: Some(DropReason::LossIn), copies: Vec::new() });
    }

    #[test]
    fn a_decision_serialises_as_plain_data() {
        let planned = PlannedDatagram { number: 1, dropped: Some(DropReason::LossIn), copies: Vec::new() };
        let json = serde_json::to_string(&planned).expect("plain data");
        assert_eq!(json, r#"{"type":"planned","number":1,"dropped":"loss_in","copies":[]}"#);
    }
}
