//! Delays in classes, as Prometheus wants them.

use std::time::Duration;

/// The upper ends of the classes.
pub(super) const BUCKET_BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// How many delays were in which class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: [u64; BUCKET_BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    /// Adds one.
    pub(crate) fn observe(&mut self, delay: Duration) {
        self.count += 1;
        self.sum = self.sum.saturating_add(delay);
        let class = BUCKET_BOUNDS.iter().zip(&mut self.counts).find(|(bound, _)| delay <= **bound);
        if let Some((_, count)) = class {
            *count += 1;
        }
    }

    /// Each upper end with how many were at most that long.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        BUCKET_BOUNDS.into_iter().zip(self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// All of them together.
    pub(crate) fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;
    use std::time::Duration;

    #[test]
    fn buckets_are_cumulative_and_include_their_upper_bound() {
        let mut histogram = Histogram::default();
        [0, 1, 2, 3, 9_000].map(Duration::from_millis).into_iter().for_each(|delay| histogram.observe(delay));
        let classes: Vec<_> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(classes[..4], [2, 3, 4, 4]);
        assert_eq!((classes.last(), histogram.count()), (Some(&4), 5));
        assert_eq!(histogram.sum(), Duration::from_millis(9_006));
    }
}
