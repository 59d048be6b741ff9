//! Text plots of a series: spark line and histogram.
//!
//! Owns the mapping of durations to block characters. Losses are shown, because a plot without its gaps would be
//! misleading.

use std::fmt::Write as _;
use std::time::Duration;

use crate::time::HumanDuration;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ROWS: usize = 8;

/// Outcome of one attempt in a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// Reply within the timeout.
    Answered(Duration),
    /// Reply after the timeout.
    Late(Duration),
    /// No reply.
    Lost,
    /// Network error such as port unreachable (ICMP).
    Refused,
    /// Not sent by the local system.
    NotSent,
    /// Any other failure.
    Failed,
}

impl Marker {
    /// Round-trip time of the reply, late or not.
    pub(crate) fn rtt(self) -> Option<Duration> {
        match self {
            Self::Answered(time) | Self::Late(time) => Some(time),
            Self::Lost | Self::Refused | Self::NotSent | Self::Failed => None,
        }
    }
}

/// Counts of the attempts that failed, in words.
pub(super) fn describe_failures(markers: impl Iterator<Item = Marker>) -> String {
    let mut counts = [(0, "lost"), (0, "refused"), (0, "not sent"), (0, "failed")];
    let [(lost, _), (refused, _), (not_sent, _), (failed, _)] = &mut counts;
    for marker in markers {
        match marker {
            Marker::Answered(_) | Marker::Late(_) => {}
            Marker::Lost => *lost += 1,
            Marker::Refused => *refused += 1,
            Marker::NotSent => *not_sent += 1,
            Marker::Failed => *failed += 1,
        }
    }
    let words: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    words.join(", ")
}

/// Draws a series in at most `width` cells, each the longest time of its part; a part without a reply is `x`.
/// If cells hold several pings, a second line shows the share of each part that was lost.
pub(crate) fn spark_line(markers: &[Marker], width: usize) -> String {
    let Some((low, high)) = range(markers) else { return describe_failures(markers.iter().copied()) };
    let per_cell = markers.len().div_ceil(width.max(1)).max(1);
    let cells: String = markers.chunks(per_cell).map(|part| cell(part, low, high)).collect();
    let start = HumanDuration(low).to_string();
    let line = format!("{start} {cells} {}", HumanDuration(high));
    if per_cell == 1 || markers.iter().all(|marker| marker.rtt().is_some()) {
        return line;
    }
    let missing: String = markers.chunks(per_cell).map(loss_block).collect();
    format!(
        "{line}\n{:>width$} {missing} {}",
        "lost",
        describe_failures(markers.iter().copied()),
        width = start.chars().count()
    )
}

/// Block for the share of a part without a reply.
fn loss_block(part: &[Marker]) -> char {
    let count = part.iter().filter(|marker| marker.rtt().is_none()).count();
    let share = u32::try_from(count * 100 / part.len().max(1)).unwrap_or(100);
    if count == 0 { ' ' } else { block(f64::from(share) / 100.0) }
}

fn cell(part: &[Marker], low: Duration, high: Duration) -> char {
    let longest = part.iter().filter_map(|marker| marker.rtt()).max();
    match longest {
        Some(time) => block(fraction(time, low, high)),
        None => 'x',
    }
}

/// Draws a histogram with bins of equal width, one per row.
pub(crate) fn histogram(markers: &[Marker], width: usize) -> String {
    let Some((low, high)) = range(markers) else { return String::new() };
    let rows = if low == high { 1 } else { ROWS };
    let mut counts = vec![0_usize; rows];
    for time in markers.iter().filter_map(|marker| marker.rtt()) {
        if let Some(count) = counts.get_mut(bin_index(time, low, high, rows)) {
            *count += 1;
        }
    }
    let max_count = counts.iter().copied().max().unwrap_or(1).max(1);
    let step = high.saturating_sub(low) / u32::try_from(rows).unwrap_or(1);
    let mut text = String::new();
    for (row, count) in counts.iter().enumerate() {
        let from = low + step * u32::try_from(row).unwrap_or(0);
        let bar = "█".repeat((count * width).div_ceil(max_count));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>9} {bar} {count}", HumanDuration(from).to_string());
    }
    text.trim_end().to_owned()
}

fn range(markers: &[Marker]) -> Option<(Duration, Duration)> {
    let times = || markers.iter().filter_map(|marker| marker.rtt());
    Some((times().min()?, times().max()?))
}

/// Position of a time between the shortest and the longest, 0…1.
pub(super) fn fraction(time: Duration, low: Duration, high: Duration) -> f64 {
    let whole = high.saturating_sub(low).as_secs_f64();
    if whole > 0.0 { time.saturating_sub(low).as_secs_f64() / whole } else { 0.0 }
}

fn bin_index(time: Duration, low: Duration, high: Duration, rows: usize) -> usize {
    scaled(fraction(time, low, high), rows)
}

fn block(fraction: f64) -> char {
    BLOCKS.get(scaled(fraction, BLOCKS.len())).copied().unwrap_or('█')
}

/// Maps a fraction to one of `count` bins.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a fraction of 0…1 times a small count"
)]
fn scaled(fraction: f64, count: usize) -> usize {
    ((fraction * count as f64) as usize).min(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::{Marker, histogram, spark_line};
    use std::time::Duration;

    fn ms(values: &[u64]) -> Vec<Marker> {
        values
            .iter()
            .map(|value| if *value == 0 { Marker::Lost } else { Marker::Answered(Duration::from_millis(*value)) })
            .collect()
    }

    #[test]
    fn a_spark_line_follows_the_times_and_shows_losses() {
        assert_eq!(spark_line(&ms(&[1, 8, 0, 4]), 60), "1.00 ms ▁█x▄ 8.00 ms");
        assert_eq!(spark_line(&ms(&[3, 3]), 60), "3.00 ms ▁▁ 3.00 ms");
        assert_eq!(spark_line(&ms(&[0, 0]), 60), "2 lost");
        assert_eq!(spark_line(&[Marker::Refused, Marker::NotSent, Marker::Refused], 60), "2 refused, 1 not sent");
    }

    #[test]
    fn a_long_series_fits_its_width_and_keeps_its_peaks() {
        let mut values = vec![1; 1000];
        values[500] = 9;
        let line = spark_line(&ms(&values), 10);
        assert_eq!(line.matches(['▁', '█']).count(), 10);
        assert!(line.contains('█'), "{line}");
    }

    #[test]
    fn a_part_with_losses_shows_its_times_and_the_share_lost() {
        let line = spark_line(&ms(&[1, 1, 1, 0, 0, 8, 0, 0]), 4);
        assert_eq!(line, "1.00 ms ▁▁█x 8.00 ms\n   lost  ▅▅█ 4 lost");
    }

    #[test]
    fn a_histogram_counts_every_reply_once() {
        let text = histogram(&ms(&[1, 1, 2, 9, 0]), 10);
        let counted: usize = text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
        assert_eq!((counted, text.lines().count()), (4, 8), "{text}");
        assert_eq!(histogram(&ms(&[3, 3]), 10).lines().count(), 1);
        assert_eq!(histogram(&ms(&[0]), 10), "");
    }

    #[test]
    fn zero_width_does_not_divide_by_zero() {
        assert!(!spark_line(&ms(&[1, 2]), 0).is_empty());
        assert!(!histogram(&ms(&[1, 2]), 0).is_empty());
    }
}
