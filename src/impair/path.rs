//! How a verdict on one arrival comes about.
//!
//! Owns what was ordered ([`Impairment`]) and what one client's path remembers of it ([`Path`]:
//! how many arrived, the state of its burst chains, when its link is free). It must not know
//! what a datagram is; lengths and moments are enough.
//!
//! Every decision is made from the arrival's number, also on the way out, and a chain moves with
//! every arrival, lost or not: so no decision shifts another one.

use std::str::FromStr;
use std::time::Duration;

use super::chance::Probability;
use super::delay::Jitter;
use super::dice::{DecisionKind, SeededRandom};
use super::loss::LossModel;
use super::rate::BitRate;
use super::verdict::{BitFlip, CopyOutcome, DropReason, LinkEffects, PathEffects, Verdict};
use crate::error::Error;
use crate::exit::Exit;
use crate::time::Moment;

/// What the network is to do to datagrams.
#[derive(Clone, Debug)]
pub(crate) struct Impairment {
    /// The seed of every decision.
    pub seed: u64,
    /// Which are lost.
    pub loss: LossModel,
    /// Which have one bit flipped.
    pub corrupt: Probability,
    /// Which are sent twice.
    pub duplicate: Probability,
    /// The speed of the link.
    pub rate: Option<BitRate>,
    /// How long they are held, in the middle.
    pub delay: Duration,
    /// How far from the middle.
    pub jitter: Jitter,
    /// Which are not held at all and so overtake the others, as netem's `reorder` does.
    pub reorder: Probability,
    /// On which way all this happens.
    pub direction: Direction,
}

/// Where an impairment works, seen from the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Direction {
    /// On requests.
    #[default]
    In,
    /// On replies.
    Out,
    /// On both, each with throws of its own.
    Both,
}

/// One of the two ways of a path, seen from the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkDirection {
    In,
    Out,
}

impl Impairment {
    /// A network that does nothing to anybody.
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

    /// Refuses orders that cannot be carried out.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.reorder.is_possible() && self.delay.is_zero() {
            return Err(Error::new(Exit::Usage, "reordering needs a delay")
                .expected("a delay that some datagrams are spared, so that they overtake")
                .remedy("add --delay 50ms, longer than the distance between datagrams"));
        }
        Ok(())
    }

    /// The path of the client that appeared as number `client`, counted from 1.
    pub(crate) fn path_state(&self, client: u32) -> PathState {
        PathState {
            random: SeededRandom::new(self.seed, client),
            arrivals: 0,
            inbound: LinkState::default(),
            outbound: LinkState::default(),
        }
    }

    /// What happens to the next datagram on a path, of so many octets, that came `now`.
    pub(crate) fn decide(&self, path: &mut PathState, now: Moment, size: usize) -> Verdict {
        path.arrivals += 1;
        let mut verdict = Verdict::new(path.arrivals);
        let lost_in = self.is_lost(path, LinkDirection::In);
        let lost_out = self.is_lost(path, LinkDirection::Out);
        if lost_in {
            verdict.push(CopyOutcome::Dropped(DropReason::LossIn));
            return verdict;
        }
        for inward in self.effects_per_copy(path, LinkDirection::In, 0, now, size).into_iter().flatten() {
            match inward {
                Err(cause) => verdict.push(CopyOutcome::Dropped(cause)),
                Ok(_) if lost_out => verdict.push(CopyOutcome::Dropped(DropReason::LossOut)),
                Ok(inward) => self.apply_outbound(path, inward, now, size, &mut verdict),
            }
        }
        verdict
    }

    /// The way back of a copy that arrived.
    fn apply_outbound(
        &self,
        path: &mut PathState,
        inward: LinkEffects,
        now: Moment,
        size: usize,
        verdict: &mut Verdict,
    ) {
        // A copy that was doubled on the way in makes throws of its own on the way out.
        let copy = inward.copy_index * 2;
        let legs = self.effects_per_copy(path, LinkDirection::Out, copy, now + inward.delay, size);
        for outward in legs.into_iter().flatten() {
            verdict.push(match outward {
                Ok(outward) => CopyOutcome::Delivered(PathEffects { inbound: inward, outbound: outward }),
                Err(cause) => CopyOutcome::Dropped(cause),
            });
        }
    }

    /// Whether nothing was ordered. Then [`Path::skip`] says all that an arrival needs.
    pub(crate) fn is_noop(&self) -> bool {
        let chances = [self.corrupt, self.duplicate];
        !self.loss.is_possible()
            && !chances.into_iter().any(Probability::is_possible)
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
        let (dice, number) = (path.random, path.arrivals);
        let bad = &mut path.link(direction).in_bad_state;
        self.loss.is_lost(dice, |kind| direction.decision_kind(kind), number, bad)
    }

    /// The copies of a datagram on one way, the second one only if it was made.
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
        let throw =
            |kind: DecisionKind| path.random.draw(direction.decision_kind(kind).for_copy(copy_index), path.arrivals);
        let flip = (self.corrupt.is_possible() && self.corrupt.hits(throw(DecisionKind::CORRUPT)))
            .then(|| BitFlip::new(throw(DecisionKind::CORRUPT_BIT)));
        let twice = self.duplicate.is_possible() && self.duplicate.hits(throw(DecisionKind::DUPLICATE));
        [
            Some(self.link_effects(path, direction, copy_index, flip, now, size)),
            twice.then(|| self.link_effects(path, direction, copy_index + 1, flip, now, size)),
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
        let (dice, number) = (path.random, path.arrivals);
        let queued = match self.rate {
            Some(rate) => {
                let busy = &mut path.link(direction).busy_until;
                rate.enqueue(busy, now, size).ok_or(DropReason::QueueFull)?
            }
            None => Duration::ZERO,
        };
        let kind = |kind: DecisionKind| direction.decision_kind(kind).for_copy(copy_index);
        let overtakes = self.reorder.is_possible() && self.reorder.hits(dice.draw(kind(DecisionKind::REORDER), number));
        let held = if overtakes {
            Duration::ZERO
        } else {
            self.jitter.sample_delay(self.delay, dice, kind(DecisionKind::JITTER), number)
        };
        Ok(LinkEffects { delay: queued.saturating_add(held), bit_flip, copy_index })
    }
}

/// What the network remembers of one client.
#[derive(Clone, Debug)]
pub(crate) struct PathState {
    random: SeededRandom,
    arrivals: u64,
    inbound: LinkState,
    outbound: LinkState,
}

#[derive(Clone, Copy, Debug, Default)]
struct LinkState {
    /// Whether the burst chain is in its bad state.
    in_bad_state: bool,
    /// When the last datagram will have left the queue.
    busy_until: Option<Moment>,
}

impl PathState {
    /// Counts an arrival to which nothing can happen, so that an honest server pays for no dice.
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
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "in" => Ok(Self::In),
            "out" => Ok(Self::Out),
            "both" => Ok(Self::Both),
            _ => Err(Error::new(Exit::Usage, format!("`{text}` is not a direction")).expected("in, out or both")),
        }
    }
}

#[cfg(test)]
mod tests;
