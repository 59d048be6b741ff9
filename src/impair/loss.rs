//! Loss models.
//!
//! Owns the models and their parsing. The burst model is Gilbert-Elliott with the parameters of tc-netem(8)
//! `gemodel`: P is the probability of a change from good to bad, R from bad to good, H that a datagram
//! *survives* the bad state, K that it survives the good one. (netem's command line takes 1−h and 1−k, the
//! losses; the letters are the same.) Each arrival is decided in the current state of the chain, then the
//! chain moves, as in `loss_gilb_ell`.
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

use super::probability::Probability;
use super::random::{DecisionKind, SeededRandom};
use crate::failure::{Failure, FailureKind, Result};

/// Maximum number of arrivals in `list:`.
pub(super) const MAX_LIST_LEN: usize = 10_000;

/// Loss model. Arrivals are counted from 1, per client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LossModel {
    /// Independent loss with the same probability for each arrival.
    Random(Probability),
    GilbertElliott {
        /// Change from good to bad.
        p: Probability,
        /// Change from bad to good.
        r: Probability,
        /// Survival in the bad state.
        h: Probability,
        /// Survival in the good state.
        k: Probability,
    },
    /// Every K-th arrival.
    EveryNth(NonZeroU64),
    /// Listed arrivals, ascending.
    List(Vec<u64>),
}

impl LossModel {
    #[cfg(test)]
    pub(crate) const NONE: Self = Self::Random(Probability::NEVER);

    /// Returns the loss of the textbook's server: a random integer 0…10, lost if below 4.
    pub(crate) fn textbook() -> Self {
        Self::Random(Probability::new(4, 11).expect("4 of 11 is a probability"))
    }

    /// Returns false if the model is random loss with probability 0; every other model counts as possible loss.
    pub(crate) fn is_possible(&self) -> bool {
        !matches!(self, Self::Random(probability) if !probability.is_possible())
    }

    /// Decides whether arrival `ordinal` is lost, and advances the burst chain whose state is `in_bad_state`.
    /// `for_direction` turns a kind into that of one direction.
    pub(super) fn is_lost(
        &self,
        random: SeededRandom,
        for_direction: impl Fn(DecisionKind) -> DecisionKind,
        ordinal: u64,
        in_bad_state: &mut bool,
    ) -> bool {
        let hit = |probability: Probability, kind| probability.hits(random.draw(for_direction(kind), ordinal));
        match self {
            Self::Random(probability) => hit(*probability, DecisionKind::LOSS),
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
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let loss = match text.split_once(':') {
            None => text.parse().map(Self::Random).ok(),
            Some(("ge", parameters)) => parse_gilbert_elliott(parameters),
            Some(("nth", every)) => every.parse().map(Self::EveryNth).ok(),
            Some(("list", numbers)) => parse_list(numbers),
            Some(_) => None,
        };
        loss.ok_or_else(|| {
            Failure::new(FailureKind::InvalidValue, format!("'{text}' is not a loss model")).expected(
                "a probability, ge:P,R[,H,K], nth:K or list:N,N,... (at most 10000 datagram numbers, from 1), \
                     such as 0, 30%, 4/11, ge:2%,25%, nth:5 or list:3,7",
            )
        })
    }
}

fn parse_gilbert_elliott(parameters: &str) -> Option<LossModel> {
    let mut probabilities = parameters.split(',').map(str::parse::<Probability>);
    let (p, r) = (probabilities.next()?.ok()?, probabilities.next()?.ok()?);
    let (h, k) = match (probabilities.next(), probabilities.next()) {
        (None, _) => (Probability::NEVER, Probability::ALWAYS),
        (Some(h), Some(k)) => (h.ok()?, k.ok()?),
        (Some(_), None) => return None,
    };
    probabilities.next().is_none().then_some(LossModel::GilbertElliott { p, r, h, k })
}

fn parse_list(numbers: &str) -> Option<LossModel> {
    let mut list = Vec::new();
    for ordinal in numbers.split(',') {
        let ordinal: NonZeroU64 = ordinal.parse().ok()?;
        if list.len() == MAX_LIST_LEN {
            return None;
        }
        list.push(ordinal.get());
    }
    list.sort_unstable();
    list.dedup();
    Some(LossModel::List(list))
}

impl fmt::Display for LossModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(probability) => write!(f, "{probability}"),
            Self::GilbertElliott { p, r, h, k } => write!(f, "ge:{p},{r},{h},{k}"),
            Self::EveryNth(every) => write!(f, "nth:{every}"),
            Self::List(numbers) => {
                f.write_str("list:")?;
                numbers
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, ordinal)| write!(f, "{}{ordinal}", if at > 0 { "," } else { "" }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LossModel, MAX_LIST_LEN};
    use crate::failure::FailureKind;
    use crate::impair::SeededRandom;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::protocol::script::property_config())]

        #[test]
        fn a_model_is_shown_as_it_can_be_written(
            model in prop_oneof![
                "[0-9]{1,2}%", "0\\.[0-9]{1,6}", "[0-9]/1[0-9]", "ge:[0-9]{1,2}%,0\\.[0-9]{1,3}(,[0-9]%,9[0-9]%)?",
                "nth:[1-9][0-9]{0,5}", "list:[1-9][0-9]{0,3}(,[1-9][0-9]{0,3}){0,5}",
            ],
            noise in "(ge|nth|list)?:?[0-9.,/%: é-]{0,20}",
        ) {
            prop_assert!(model.parse::<LossModel>().is_ok());
            for text in [model, noise] {
                // The spelling of a probability is not kept, its value is.
                let Ok(parsed) = text.parse::<LossModel>() else { continue };
                let shown = parsed.to_string();
                prop_assert_eq!(loss(&shown).to_string(), shown);
            }
        }
    }

    fn loss(text: &str) -> LossModel {
        text.parse().expect(text)
    }

    /// Returns the decisions on arrivals 1 to `count`.
    fn losses(text: &str, count: u64) -> Vec<bool> {
        let (loss, random, mut in_bad_state) = (loss(text), SeededRandom::new(1, 1), false);
        (1..=count).map(|ordinal| loss.is_lost(random, |kind| kind, ordinal, &mut in_bad_state)).collect()
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
    fn an_invalid_model_is_rejected_with_the_right_spelling() {
        let invalid = [
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
        for text in invalid {
            let error = text.parse::<LossModel>().expect_err(text);
            assert_eq!(error.kind(), FailureKind::InvalidValue);
            assert!(error.into_parts().1.is_some_and(|expected| expected.contains("nth:5")));
        }
    }

    #[test]
    fn a_list_may_be_as_long_as_its_limit_and_no_longer() {
        let numbers = |count: usize| {
            let numbers: Vec<_> = (1..=count).map(|ordinal| ordinal.to_string()).collect();
            format!("list:{}", numbers.join(",")).parse::<LossModel>()
        };
        assert!(numbers(MAX_LIST_LEN).is_ok());
        assert!(numbers(MAX_LIST_LEN + 1).is_err());
    }

    /// P/(P+R) = 2/27 = 7.41 %, mean run 1/R = 4.
    #[test]
    fn burst_loss_has_the_expected_rate_and_mean_run_length() {
        let losses = losses("ge:2%,25%", 400_000);
        let lost = losses.iter().filter(|lost| **lost).count();
        let runs = losses.windows(2).filter(|pair| pair == &[false, true]).count();
        assert!(lost.abs_diff(29_630) < 1_500, "{lost}");
        assert!((lost * 10 / runs).abs_diff(40) <= 2, "{lost} in {runs} runs");
    }

    #[test]
    fn h_and_k_are_probabilities_to_survive() {
        assert!(losses("ge:100%,0%,100%,100%", 1_000).iter().all(|lost| !lost));
        // Never bad, and nothing survives the good state.
        assert!(losses("ge:0%,100%,100%,0%", 1_000).iter().all(|lost| *lost));
    }
}
