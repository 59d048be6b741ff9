//! Decisions without a network.
//!
//! Owns the list behind `--plan N`: what would happen to the first datagrams of a client. A queue
//! depends on when datagrams come, which a plan cannot know, so it leaves the rate out.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::path::Impairment;
use super::verdict::{CopyOutcome, DropReason, PathEffects};
use crate::time::{HumanDuration, Moment, serialize_ns};

impl Impairment {
    /// What will happen to the first `count` datagrams of a client.
    pub(crate) fn plan(&self, client: u32, count: u64) -> impl Iterator<Item = PlannedDatagram> {
        let unhurried = Self { rate: None, ..self.clone() };
        let mut path = unhurried.path_state(client);
        let whenever = Moment::new(Duration::ZERO, Duration::ZERO);
        (0..count).map(move |_| {
            let verdict = unhurried.decide(&mut path, whenever, 0);
            PlannedDatagram {
                number: verdict.ordinal(),
                dropped: verdict.drop_reason(),
                copies: verdict.copies().filter_map(PlannedCopy::from_outcome).collect(),
            }
        })
    }
}

/// The decision on one datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PlannedDatagram {
    /// The how-manieth it is of its client, from 1.
    pub number: u64,
    /// Why nothing of it goes through.
    pub dropped: Option<DropReason>,
    /// What goes through of it: nothing, itself, or itself more than once.
    pub copies: Vec<PlannedCopy>,
}

/// One copy that goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PlannedCopy {
    /// How long it is held, on both ways together.
    #[serde(rename = "delay_ns", serialize_with = "serialize_ns")]
    pub delay: Duration,
    /// Whether it is damaged.
    pub corrupt: bool,
}

impl PlannedCopy {
    fn from_outcome(outcome: CopyOutcome) -> Option<Self> {
        match outcome {
            CopyOutcome::Dropped(_) => None,
            CopyOutcome::Delivered(PathEffects { inbound: inward, outbound: outward }) => Some(Self {
                delay: inward.delay.saturating_add(outward.delay),
                corrupt: inward.bit_flip.is_some() || outward.bit_flip.is_some(),
            }),
        }
    }
}

/// `3: lost on the way in`, `4: passes`, `5: passes after 20.1 ms, twice, damaged`.
impl fmt::Display for PlannedDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.number)?;
        if let Some(cause) = self.dropped {
            return write!(f, "{cause}");
        }
        for (at, copy) in self.copies.iter().enumerate() {
            f.write_str(if at == 0 { "passes" } else { ", again" })?;
            if !copy.delay.is_zero() {
                write!(f, " after {}", HumanDuration(copy.delay))?;
            }
            if copy.corrupt {
                f.write_str(" damaged")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{PlannedCopy, PlannedDatagram};
    use crate::impair::{BitRate, DropReason, Impairment, LossModel};
    use crate::time::Moment;
    use std::time::Duration;

    #[test]
    fn the_plan_is_what_happens() {
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
    fn a_plan_has_one_line_per_decision_and_no_queue() {
        let impairment = Impairment {
            loss: "list:2".parse().expect("a model"),
            rate: BitRate::from_bits_per_second(1),
            delay: Duration::from_millis(20),
            ..Impairment::none(1)
        };
        let lines: Vec<_> = impairment.plan(1, 2).map(|planned| planned.to_string()).collect();
        assert_eq!(lines, ["1: passes after 20.0 ms", "2: lost on the way in"]);
    }

    #[test]
    fn copies_and_damage_are_named() {
        let copy = |millis, corrupt| PlannedCopy { delay: Duration::from_millis(millis), corrupt };
        let planned = PlannedDatagram { number: 5, dropped: None, copies: vec![copy(0, true), copy(30, false)] };
        assert_eq!(planned.to_string(), "5: passes damaged, again after 30.0 ms");
    }

    #[test]
    fn a_decision_serialises_as_plain_data() {
        let planned = PlannedDatagram { number: 1, dropped: Some(DropReason::LossIn), copies: Vec::new() };
        let json = serde_json::to_string(&planned).expect("plain data");
        assert_eq!(json, r#"{"number":1,"dropped":"loss_in","copies":[]}"#);
    }
}
