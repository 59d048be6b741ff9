//! Decisions on one arrival.
//!
//! Owns the configuration ([`Impairment`]) and the state of one client's path ([`PathState`]: the number of
//! arrivals, the states of its burst chains, the moment at which its link is free). It must not know what a
//! datagram is; lengths and moments are enough.
//!
//! Every decision is derived from the arrival's ordinal, also outbound, and a chain advances with every
//! arrival, lost or not: so no decision shifts another one.

use std::str::FromStr;
use std::time::Duration;

use super::delay::Jitter;
use super::loss::LossModel;
use super::probability::Probability;
use super::random::{DecisionKind, SeededRandom};
use super::rate::BitRate;
use super::verdict::{BitFlip, CopyOutcome, DropReason, LinkEffects, PathEffects, Verdict};
use crate::failure::{Failure, FailureKind};
use crate::time::Moment;

/// Impairments to apply to datagrams.
#[derive(Clone, Debug)]
pub(crate) struct Impairment {
    pub seed: u64,
    pub loss: LossModel,
    /// Probability that one bit is flipped.
    pub corrupt: Probability,
    /// Probability that a datagram is sent twice.
    pub duplicate: Probability,
    /// Speed of the link.
    pub rate: Option<BitRate>,
    /// Mean delay in each direction.
    pub delay: Duration,
    /// Variation around the mean delay.
    pub jitter: Jitter,
    /// Probability that a datagram is not delayed and so overtakes others, as with netem's `reorder`.
    pub reorder: Probability,
    pub direction: Direction,
}

/// Direction in which impairments apply, seen from the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Requests only.
    #[default]
    In,
    /// Replies only.
    Out,
    /// Requests and replies, each with its own random numbers.
    Both,
}

/// One direction of a path, seen from the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkDirection {
    In,
    Out,
}

impl Impairment {
    /// Returns impairments that change nothing.
    #[cfg(test)]
    pub(crate) fn none(seed: u64) -> Self {
        Self {
            seed,
            loss: LossModel::NONE,
            corrupt: Probability::NEVER,
            duplicate: Probability::NEVER,
            rate: None,
            delay: Duration::ZERO,
            jitter: Jitter::default(),
            reorder: Probability::NEVER,
            direction: Direction::In,
        }
    }

    /// Rejects combinations that cannot work.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        if self.reorder.is_possible() && self.delay.is_zero() {
            return Err(Failure::new(
                FailureKind::InvalidValue,
                "reordering needs a delay, which reordered datagrams skip",
            )
            .expected("a delay longer than the interval between datagrams, such as 50ms"));
        }
        Ok(())
    }

    /// Creates the path of the client with this ordinal, counted from 1.
    pub(crate) fn path_state(&self, client: u32) -> PathState {
        PathState {
            random: SeededRandom::new(self.seed, client),
            arrivals: 0,
            inbound: LinkState::default(),
            outbound: LinkState::default(),
        }
    }

    /// Decides the outcome of the next datagram on a path, of `size` bytes, which arrived at `now`.
    pub(crate) fn decide(&self, path: &mut PathState, now: Moment, size: usize) -> Verdict {
        path.arrivals += 1;
        let mut verdict = Verdict::new(path.arrivals);
        let lost_in = self.is_lost(path, LinkDirection::In);
        let lost_out = self.is_lost(path, LinkDirection::Out);
        if lost_in {
            verdict.push(CopyOutcome::Dropped(DropReason::LossIn));
            return verdict;
        }
        for inbound in self.effects_per_copy(path, LinkDirection::In, 0, now, size).into_iter().flatten() {
            match inbound {
                Err(reason) => verdict.push(CopyOutcome::Dropped(reason)),
                Ok(_) if lost_out => verdict.push(CopyOutcome::Dropped(DropReason::LossOut)),
                Ok(inbound) => self.apply_outbound(path, inbound, now, size, &mut verdict),
            }
        }
        verdict
    }

    /// Applies the outbound effects to a copy that passed inbound.
    fn apply_outbound(
        &self,
        path: &mut PathState,
        inbound: LinkEffects,
        now: Moment,
        size: usize,
        verdict: &mut Verdict,
    ) {
        // A copy that was duplicated inbound has its own random numbers outbound.
        let copy = inbound.copy_index * 2;
        let effects = self.effects_per_copy(path, LinkDirection::Out, copy, now + inbound.delay, size);
        for outbound in effects.into_iter().flatten() {
            verdict.push(match outbound {
                Ok(outbound) => CopyOutcome::Delivered(PathEffects { inbound, outbound }),
                Err(reason) => CopyOutcome::Dropped(reason),
            });
        }
    }

    /// Returns true if nothing is configured. [`PathState::count_unimpaired`] is then all that an arrival needs.
    pub(crate) fn is_noop(&self) -> bool {
        let probabilities = [self.corrupt, self.duplicate];
        !self.loss.is_possible()
            && !probabilities.into_iter().any(Probability::is_possible)
            && self.rate.is_none()
            && self.delay.is_zero()
            && self.jitter.spread.is_zero()
    }

    fn applies_to(&self, direction: LinkDirection) -> bool {
        match self.direction {
            Direction::Both => true,
            Direction::In => direction == LinkDirection::In,
            Direction::Out => direction == LinkDirection::Out,
        }
    }

    fn is_lost(&self, path: &mut PathState, direction: LinkDirection) -> bool {
        if !self.applies_to(direction) {
            return false;
        }
        let (random, ordinal) = (path.random, path.arrivals);
        let in_bad_state = &mut path.link(direction).in_bad_state;
        self.loss.is_lost(random, |kind| direction.decision_kind(kind), ordinal, in_bad_state)
    }

    /// Returns the effects on each copy in one direction; the second is present only if the datagram was duplicated.
    fn effects_per_copy(
        &self,
        path: &mut PathState,
        direction: LinkDirection,
        copy_index: u8,
        now: Moment,
        size: usize,
    ) -> [Option<Result<LinkEffects, DropReason>>; 2] {
        if !self.applies_to(direction) {
            let untouched = LinkEffects { copy_index, ..LinkEffects::default() };
            return [Some(Ok(untouched)), None];
        }
        let draw =
            |kind: DecisionKind| path.random.draw(direction.decision_kind(kind).for_copy(copy_index), path.arrivals);
        let bit_flip = (self.corrupt.is_possible() && self.corrupt.hits(draw(DecisionKind::CORRUPT)))
            .then(|| BitFlip::new(draw(DecisionKind::CORRUPT_BIT)));
        let is_duplicated = self.duplicate.is_possible() && self.duplicate.hits(draw(DecisionKind::DUPLICATE));
        [
            Some(self.link_effects(path, direction, copy_index, bit_flip, now, size)),
            is_duplicated.then(|| self.link_effects(path, direction, copy_index + 1, bit_flip, now, size)),
        ]
    }

    fn link_effects(
        &self,
        path: &mut PathState,
        direction: LinkDirection,
        copy_index: u8,
        bit_flip: Option<BitFlip>,
        now: Moment,
        size: usize,
    ) -> Result<LinkEffects, DropReason> {
        let (random, ordinal) = (path.random, path.arrivals);
        let queue_delay = match self.rate {
            Some(rate) => {
                let busy_until = &mut path.link(direction).busy_until;
                rate.enqueue(busy_until, now, size).ok_or(DropReason::QueueFull)?
            }
            None => Duration::ZERO,
        };
        let kind = |kind: DecisionKind| direction.decision_kind(kind).for_copy(copy_index);
        let is_reordered =
            self.reorder.is_possible() && self.reorder.hits(random.draw(kind(DecisionKind::REORDER), ordinal));
        let delay = if is_reordered {
            Duration::ZERO
        } else {
            self.jitter.sample_delay(self.delay, random, kind(DecisionKind::JITTER), ordinal)
        };
        Ok(LinkEffects { delay: queue_delay.saturating_add(delay), bit_flip, copy_index })
    }
}

/// State of one client's path.
#[derive(Clone, Debug)]
pub(crate) struct PathState {
    random: SeededRandom,
    arrivals: u64,
    inbound: LinkState,
    outbound: LinkState,
}

#[derive(Clone, Copy, Debug, Default)]
struct LinkState {
    /// The burst chain is in its bad state.
    in_bad_state: bool,
    /// Moment at which the last datagram will have left the queue.
    busy_until: Option<Moment>,
}

impl PathState {
    /// Counts an arrival on a path without impairments; computes no random numbers.
    pub(crate) fn count_unimpaired(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    fn link(&mut self, direction: LinkDirection) -> &mut LinkState {
        match direction {
            LinkDirection::In => &mut self.inbound,
            LinkDirection::Out => &mut self.outbound,
        }
    }
}

impl LinkDirection {
    fn decision_kind(self, kind: DecisionKind) -> DecisionKind {
        match self {
            Self::In => kind,
            Self::Out => kind.outbound(),
        }
    }
}

impl FromStr for Direction {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "in" => Ok(Self::In),
            "out" => Ok(Self::Out),
            "both" => Ok(Self::Both),
            _ => Err(Failure::new(FailureKind::InvalidValue, format!("'{text}' is not a direction"))
                .expected("in, out or both")),
        }
    }
}

#[cfg(test)]
mod tests;
