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

use super::chance::Chance;
use super::delay::Jitter;
use super::dice::{Dice, Kind};
use super::loss::Loss;
use super::rate::Rate;
use super::verdict::{Cause, Fate, Flip, Leg, Passage, Verdict};
use crate::error::Error;
use crate::exit::Exit;
use crate::time::Moment;

/// What the network is to do to datagrams.
#[derive(Clone, Debug)]
pub struct Impairment {
    /// The seed of every decision.
    pub seed: u64,
    /// Which are lost.
    pub loss: Loss,
    /// Which have one bit flipped.
    pub corrupt: Chance,
    /// Which are sent twice.
    pub duplicate: Chance,
    /// The speed of the link.
    pub rate: Option<Rate>,
    /// How long they are held, in the middle.
    pub delay: Duration,
    /// How far from the middle.
    pub jitter: Jitter,
    /// Which are not held at all and so overtake the others, as netem's `reorder` does.
    pub reorder: Chance,
    /// On which way all this happens.
    pub direction: Direction,
}

/// Where an impairment works, seen from the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
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
enum Way {
    In,
    Out,
}

impl Impairment {
    /// A network that does nothing to anybody.
    #[cfg(test)]
    pub fn none(seed: u64) -> Self {
        Self {
            seed,
            loss: Loss::NONE,
            corrupt: Chance::NEVER,
            duplicate: Chance::NEVER,
            rate: None,
            delay: Duration::ZERO,
            jitter: Jitter::default(),
            reorder: Chance::NEVER,
            direction: Direction::In,
        }
    }

    /// Refuses orders that cannot be carried out.
    pub fn check(&self) -> Result<(), Error> {
        if self.reorder.is_possible() && self.delay.is_zero() {
            return Err(Error::new(Exit::Usage, "reordering needs a delay")
                .expected("a delay that some datagrams are spared, so that they overtake")
                .remedy("add --delay 50ms, longer than the distance between datagrams"));
        }
        Ok(())
    }

    /// The path of the client that appeared as number `client`, counted from 1.
    pub fn path(&self, client: u32) -> Path {
        Path { dice: Dice::new(self.seed, client), number: 0, inward: Link::default(), outward: Link::default() }
    }

    /// What happens to the next datagram on a path, of so many octets, that came `now`.
    pub fn arrival(&self, path: &mut Path, now: Moment, octets: usize) -> Verdict {
        path.number += 1;
        let mut verdict = Verdict::new(path.number);
        let lost_in = self.strikes(path, Way::In);
        let lost_out = self.strikes(path, Way::Out);
        if lost_in {
            verdict.push(Fate::Dropped(Cause::LossIn));
            return verdict;
        }
        for inward in self.legs(path, Way::In, 0, now, octets).into_iter().flatten() {
            match inward {
                Err(cause) => verdict.push(Fate::Dropped(cause)),
                Ok(_) if lost_out => verdict.push(Fate::Dropped(Cause::LossOut)),
                Ok(inward) => self.back(path, inward, now, octets, &mut verdict),
            }
        }
        verdict
    }

    /// The way back of a copy that arrived.
    fn back(&self, path: &mut Path, inward: Leg, now: Moment, octets: usize, verdict: &mut Verdict) {
        // A copy that was doubled on the way in makes throws of its own on the way out.
        let copy = inward.copy * 2;
        let legs = self.legs(path, Way::Out, copy, now + inward.delay, octets);
        for outward in legs.into_iter().flatten() {
            verdict.push(match outward {
                Ok(outward) => Fate::Passed(Passage { inward, outward }),
                Err(cause) => Fate::Dropped(cause),
            });
        }
    }

    /// Whether nothing was ordered. Then [`Path::skip`] says all that an arrival needs.
    pub fn is_idle(&self) -> bool {
        let chances = [self.corrupt, self.duplicate];
        !self.loss.is_possible()
            && !chances.into_iter().any(Chance::is_possible)
            && self.rate.is_none()
            && self.delay.is_zero()
            && self.jitter.spread.is_zero()
    }

    fn works_on(&self, way: Way) -> bool {
        match self.direction {
            Direction::Both => true,
            Direction::In => way == Way::In,
            Direction::Out => way == Way::Out,
        }
    }

    fn strikes(&self, path: &mut Path, way: Way) -> bool {
        if !self.works_on(way) {
            return false;
        }
        let (dice, number) = (path.dice, path.number);
        let bad = &mut path.link(way).bad;
        self.loss.strikes(dice, |kind| way.kind(kind), number, bad)
    }

    /// The copies of a datagram on one way, the second one only if it was made.
    fn legs(&self, path: &mut Path, way: Way, copy: u8, now: Moment, octets: usize) -> [Option<Result<Leg, Cause>>; 2] {
        if !self.works_on(way) {
            let untouched = Leg { copy, ..Leg::default() };
            return [Some(Ok(untouched)), None];
        }
        let throw = |kind: Kind| path.dice.throw(way.kind(kind).copy(copy), path.number);
        let flip = (self.corrupt.is_possible() && self.corrupt.hits(throw(Kind::CORRUPT)))
            .then(|| Flip::new(throw(Kind::DAMAGE)));
        let twice = self.duplicate.is_possible() && self.duplicate.hits(throw(Kind::DUPLICATE));
        [
            Some(self.leg(path, way, copy, flip, now, octets)),
            twice.then(|| self.leg(path, way, copy + 1, flip, now, octets)),
        ]
    }

    fn leg(
        &self,
        path: &mut Path,
        way: Way,
        copy: u8,
        flip: Option<Flip>,
        now: Moment,
        octets: usize,
    ) -> Result<Leg, Cause> {
        let (dice, number) = (path.dice, path.number);
        let queued = match self.rate {
            Some(rate) => {
                let busy = &mut path.link(way).busy;
                rate.queue(busy, now, octets).ok_or(Cause::QueueFull)?
            }
            None => Duration::ZERO,
        };
        let kind = |kind: Kind| way.kind(kind).copy(copy);
        let overtakes = self.reorder.is_possible() && self.reorder.hits(dice.throw(kind(Kind::REORDER), number));
        let held =
            if overtakes { Duration::ZERO } else { self.jitter.delay(self.delay, dice, kind(Kind::JITTER), number) };
        Ok(Leg { delay: queued.saturating_add(held), flip, copy })
    }
}

/// What the network remembers of one client.
#[derive(Clone, Debug)]
pub struct Path {
    dice: Dice,
    number: u64,
    inward: Link,
    outward: Link,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Whether the burst chain is in its bad state.
    bad: bool,
    /// When the last datagram will have left the queue.
    busy: Option<Moment>,
}

impl Path {
    /// Counts an arrival to which nothing can happen, so that an honest server pays for no dice.
    pub fn skip(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn link(&mut self, way: Way) -> &mut Link {
        match way {
            Way::In => &mut self.inward,
            Way::Out => &mut self.outward,
        }
    }
}

impl Way {
    fn kind(self, kind: Kind) -> Kind {
        match self {
            Self::In => kind,
            Self::Out => kind.outward(),
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
