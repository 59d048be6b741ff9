//! Delay histogram with fixed buckets, as Prometheus expects it.

use std::time::Duration;

/// Inclusive upper bounds of the buckets.
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

/// Number of delays per bucket, with their total count and sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: [u64; BUCKET_BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    pub(crate) fn observe(&mut self, delay: Duration) {
        self.count += 1;
        self.sum = self.sum.saturating_add(delay);
        let bucket = BUCKET_BOUNDS.iter().zip(&mut self.counts).find(|(bound, _)| delay <= **bound);
        if let Some((_, count)) = bucket {
            *count += 1;
        }
    }

    /// Returns each upper bound with the number of delays up to it.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        BUCKET_BOUNDS.into_iter().zip(self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

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
        let buckets: Vec<_> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(buckets[..4], [2, 3, 4, 4]);
        assert_eq!((buckets.last(), histogram.count()), (Some(&4), 5));
        assert_eq!(histogram.sum(), Duration::from_millis(9_006));
    }
}
