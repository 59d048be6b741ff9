//! What the pictures at the end of a run are drawn from.
//!
//! Owns the series of one target, bounded: a run without end keeps its last pings.

use std::collections::BTreeMap;

use crate::output::{Chart, Dot, histogram, spark_line};
use crate::probe::Fact;

/// The most pings that are remembered for drawing.
const MOST: usize = 100_000;
/// How wide a picture in text is.
const WIDTH: usize = 60;

/// One target's pings in order.
#[derive(Debug)]
pub struct Record {
    is_kept: bool,
    dots: BTreeMap<u64, Dot>,
}

impl Record {
    /// An empty record that keeps what it is told, or nothing.
    pub fn new(is_kept: bool) -> Self {
        Self { is_kept, dots: BTreeMap::new() }
    }

    /// Notes what became of a ping; a late answer takes its loss back.
    pub fn note(&mut self, fact: &Fact) {
        let (seq, dot) = match fact {
            Fact::Reply { seq, rtt, .. } => (*seq, Dot::Answered(*rtt)),
            Fact::Late { seq, rtt, .. } => (*seq, Dot::Late(*rtt)),
            Fact::Lost { seq } => (*seq, Dot::Lost),
            Fact::Refused { seq, .. } => (*seq, Dot::Refused),
            Fact::SendError { seq, .. } => (*seq, Dot::NotSent),
            _ => return,
        };
        if !self.is_kept {
            return;
        }
        self.dots.insert(seq, dot);
        if self.dots.len() > MOST {
            self.dots.pop_first();
        }
    }

    fn in_order(&self) -> Vec<(u64, Dot)> {
        self.dots.iter().map(|(seq, dot)| (*seq, *dot)).collect()
    }

    /// A spark line and a histogram, in text.
    pub fn plot(&self) -> String {
        let dots: Vec<Dot> = self.in_order().into_iter().map(|(_, dot)| dot).collect();
        if dots.is_empty() {
            return String::new();
        }
        format!("{}\n{}", spark_line(&dots, WIDTH), histogram(&dots, WIDTH))
    }
}

/// A chart with one part per target.
pub fn chart(records: &[(&str, &Record)]) -> String {
    let charts: Vec<Chart> =
        records.iter().map(|(target, record)| Chart { title: (*target).to_owned(), dots: record.in_order() }).collect();
    crate::output::svg(&charts)
}

#[cfg(test)]
mod tests {
    use super::{MOST, Record};
    use crate::output::Dot;
    use crate::probe::Fact;
    use std::time::Duration;

    #[test]
    fn a_late_answer_takes_its_loss_back() {
        let mut record = Record::new(true);
        record.note(&Fact::Lost { seq: 1 });
        record.note(&Fact::Late { seq: 1, rtt: Duration::from_secs(2), reordered: false });
        assert_eq!(record.in_order(), [(1, Dot::Late(Duration::from_secs(2)))]);
    }

    #[test]
    fn a_run_without_end_keeps_its_last_pings() {
        let mut record = Record::new(true);
        let most = MOST as u64;
        for seq in 1..=most + 2 {
            record.note(&Fact::Lost { seq });
        }
        assert_eq!((record.dots.len(), record.in_order().first().map(|dot| dot.0)), (MOST, Some(3)));
    }

    #[test]
    fn what_nobody_draws_is_not_kept() {
        let mut record = Record::new(false);
        record.note(&Fact::Lost { seq: 1 });
        assert!(record.plot().is_empty());
    }
}
