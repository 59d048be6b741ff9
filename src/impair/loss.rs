//! Which datagrams are lost.
//!
//! Owns the loss models and their spelling. The burst model is Gilbert's and Elliott's with the
//! parameters of tc-netem(8) `gemodel`: P is the probability to go from good to bad, R from bad to
//! good, H that a datagram *survives* the bad state, K that it survives the good one. (netem's
//! command line takes 1−h and 1−k, the losses; the letters are the same.) Each arrival is judged
//! in the state the chain is in, then the chain moves, as `loss_gilb_ell` does.
//!
//! ```text
//!              P
//!      ┌────────────────▶
//!    good               bad        loss = P/(P+R) · (1−H) + R/(P+R) · (1−K)
//!      ◀────────────────┘          mean run in bad = 1/R
//!              R
//! ```

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use super::chance::Probability;
use super::dice::{DecisionKind, SeededRandom};
use crate::error::{Error, Result};
use crate::exit::Exit;

/// How many arrivals `list:` may name.
pub(super) const MAX_LIST_LEN: usize = 10_000;

/// A loss model. Arrivals are counted from 1, per client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LossModel {
    /// Each arrival alike, independent of all others.
    Random(Probability),
    /// Gilbert-Elliott bursts.
    GilbertElliott {
        /// From good to bad.
        p: Probability,
        /// From bad to good.
        r: Probability,
        /// Not lost although in the bad state.
        h: Probability,
        /// Not lost while in the good state.
        k: Probability,
    },
    /// Every K-th arrival.
    EveryNth(NonZeroU64),
    /// These arrivals, ascending.
    List(Vec<u64>),
}

impl LossModel {
    /// No loss at all.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self::Random(Probability::NEVER);

    /// What the textbook's server does: a random integer 0…10, below 4 is lost.
    pub(crate) fn textbook() -> Self {
        Self::Random(Probability::new(4, 11).expect("4 of 11 is a probability"))
    }

    /// Whether anything can be lost.
    pub(crate) fn is_possible(&self) -> bool {
        !matches!(self, Self::Random(chance) if !chance.is_possible())
    }

    /// Whether arrival `number` is lost; `bad` is the state of its burst chain, which moves on.
    /// `way` turns a kind into that of the way in or out.
    pub(super) fn is_lost(
        &self,
        random: SeededRandom,
        for_direction: impl Fn(DecisionKind) -> DecisionKind,
        ordinal: u64,
        in_bad_state: &mut bool,
    ) -> bool {
        let hit = |chance: Probability, kind| chance.hits(random.draw(for_direction(kind), ordinal));
        match self {
            Self::Random(chance) => hit(*chance, DecisionKind::LOSS),
            Self::GilbertElliott { p, r, h, k } => {
                let survival = if *in_bad_state { h } else { k };
                let lost = hit(survival.complement(), DecisionKind::LOSS);
                *in_bad_state ^= hit(if *in_bad_state { *r } else { *p }, DecisionKind::BURST);
                lost
            }
            Self::EveryNth(every) => ordinal.is_multiple_of(every.get()),
            Self::List(numbers) => numbers.binary_search(&ordinal).is_ok(),
        }
    }
}

impl FromStr for LossModel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let loss = match text.split_once(':') {
            None => text.parse().map(Self::Random).ok(),
            Some(("ge", parameters)) => parse_gilbert_elliott(parameters),
            Some(("nth", every)) => every.parse().map(Self::EveryNth).ok(),
            Some(("list", numbers)) => parse_list(numbers),
            Some(_) => None,
        };
        loss.ok_or_else(|| {
            Error::new(Exit::Usage, format!("`{text}` is not a loss model"))
                .expected(
                    "a probability, ge:P,R[,H,K], nth:K, \
                     or list: with arrivals counted from 1, ten thousand at most",
                )
                .remedy("write 0, 30%, 4/11, ge:2%,25%, nth:5 or list:3,7")
        })
    }
}

fn parse_gilbert_elliott(parameters: &str) -> Option<LossModel> {
    let mut chances = parameters.split(',').map(str::parse::<Probability>);
    let (p, r) = (chances.next()?.ok()?, chances.next()?.ok()?);
    let (h, k) = match (chances.next(), chances.next()) {
        (None, _) => (Probability::NEVER, Probability::ALWAYS),
        (Some(h), Some(k)) => (h.ok()?, k.ok()?),
        (Some(_), None) => return None,
    };
    chances.next().is_none().then_some(LossModel::GilbertElliott { p, r, h, k })
}

fn parse_list(numbers: &str) -> Option<LossModel> {
    let mut list = Vec::new();
    for number in numbers.split(',') {
        let number: NonZeroU64 = number.parse().ok()?;
        if list.len() == MAX_LIST_LEN {
            return None;
        }
        list.push(number.get());
    }
    list.sort_unstable();
    list.dedup();
    Some(LossModel::List(list))
}

impl fmt::Display for LossModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(chance) => write!(f, "{chance}"),
            Self::GilbertElliott { p, r, h, k } => write!(f, "ge:{p},{r},{h},{k}"),
            Self::EveryNth(every) => write!(f, "nth:{every}"),
            Self::List(numbers) => {
                f.write_str("list:")?;
                numbers
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, number)| write!(f, "{}{number}", if at > 0 { "," } else { "" }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LossModel, MAX_LIST_LEN};
    use crate::exit::Exit;
    use crate::impair::SeededRandom;

    fn loss(text: &str) -> LossModel {
        text.parse().expect(text)
    }

    /// What happens to arrivals 1 to `count`.
    fn losses(text: &str, count: u64) -> Vec<bool> {
        let (loss, dice, mut bad) = (loss(text), SeededRandom::new(1, 1), false);
        (1..=count).map(|number| loss.is_lost(dice, |kind| kind, number, &mut bad)).collect()
    }

    #[test]
    fn every_kth_arrival_and_listed_arrivals_are_counted_from_one() {
        assert_eq!(losses("nth:3", 7), [false, false, true, false, false, true, false]);
        assert_eq!(losses("list:4,1,4", 5), [true, false, false, true, false]);
        assert!(losses("nth:1", 9).iter().all(|lost| *lost));
    }

    #[test]
    fn models_are_shown_as_they_are_written() {
        for text in ["0%", "4/11", "ge:2%,25%,0%,100%", "nth:5", "list:3,7"] {
            assert_eq!(loss(text).to_string(), text);
        }
        assert_eq!(loss("0.3").to_string(), "30%");
    }

    #[test]
    fn what_is_no_model_is_refused_with_the_right_spelling() {
        let wrong = [
            "",
            "101",
            "NaN",
            "-1",
            "ge:",
            "ge:1%",
            "ge:1%,2%,3%",
            "ge:1%,2%,3%,4%,5%",
            "ge:2,1",
            "nth:0",
            "nth:-1",
            "nth:",
            "list:",
            "list:0",
            "list:1,,2",
            "LIST:1",
            "trace:x",
        ];
        for text in wrong {
            let error = text.parse::<LossModel>().expect_err(text);
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.expectation().is_some() && error.advice().is_some());
        }
    }

    #[test]
    fn a_list_may_be_as_long_as_its_limit_and_no_longer() {
        let numbers = |count: usize| {
            let numbers: Vec<_> = (1..=count).map(|number| number.to_string()).collect();
            format!("list:{}", numbers.join(",")).parse::<LossModel>()
        };
        assert!(numbers(MAX_LIST_LEN).is_ok());
        assert!(numbers(MAX_LIST_LEN + 1).is_err());
    }

    /// P/(P+R) = 2/27 = 7.41 %, mean run 1/R = 4.
    #[test]
    fn bursts_have_the_loss_and_the_length_of_their_chain() {
        let losses = losses("ge:2%,25%", 400_000);
        let lost = losses.iter().filter(|lost| **lost).count();
        let runs = losses.windows(2).filter(|pair| pair == &[false, true]).count();
        assert!(lost.abs_diff(29_630) < 1_500, "{lost}");
        assert!((lost * 10 / runs).abs_diff(40) <= 2, "{lost} in {runs} runs");
    }

    #[test]
    fn h_and_k_are_probabilities_to_survive() {
        assert!(losses("ge:100%,0%,100%,100%", 1_000).iter().all(|lost| !lost));
        // Never bad, and the good state lets nothing through.
        assert!(losses("ge:0%,100%,100%,0%", 1_000).iter().all(|lost| *lost));
    }
}
