//! `--fail-if`: a failure condition on a number of the summary.
//!
//! Owns the grammar `FIGURE RELATION LIMIT` and the comparison. A figure is named by its keys in the JSON summary; the
//! unit and the outer keys may be left out. A figure without data counts as a failure, because nothing was measured.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::args::{duration, one_line, parse_arg};
use super::schema::{Figure, FigureKind, figures};
use crate::error::Error;
use crate::exit::Exit;
use crate::impair::Probability;
use crate::output::Output;
use crate::time::{HumanDuration, nanoseconds};

/// Failure condition as typed, such as `loss>5%`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FailIf {
    text: String,
    figure: Figure,
    relation: Relation,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl FailIf {
    /// Parses a failure condition on a number of the summary `S`.
    pub(super) fn parse<S: JsonSchema>(text: &str) -> Result<Self, String> {
        let known = figures::<S>();
        let shape = || format!("expected FIGURE>LIMIT; figures: {}", list(&known));
        let at = text.find(['<', '>']).ok_or_else(shape)?;
        let (name, rest) = text.split_at(at);
        let (relation, limit) = match (rest.strip_prefix(">="), rest.strip_prefix("<="), rest.strip_prefix('>')) {
            (Some(limit), ..) => (Relation::AtLeast, limit),
            (_, Some(limit), _) => (Relation::AtMost, limit),
            (.., Some(limit)) => (Relation::Above, limit),
            _ => (Relation::Below, rest.get(1..).unwrap_or_default()),
        };
        let figure = find(&known, name.trim())?.ok_or_else(shape)?;
        let limit = parse_limit(figure.kind, limit.trim())?;
        Ok(Self { text: text.to_owned(), figure, relation, limit })
    }

    /// Fails if the condition holds on a summary, or if the figure has no data.
    fn check(&self, summary: &Value) -> Result<(), Error> {
        let found = summary.pointer(&self.figure.pointer).and_then(Value::as_f64);
        let holds = found.is_none_or(|found| match self.relation {
            Relation::Above => found > self.limit,
            Relation::AtLeast => found >= self.limit,
            Relation::Below => found < self.limit,
            Relation::AtMost => found <= self.limit,
        });
        if !holds {
            return Ok(());
        }
        let found = found
            .map_or_else(|| "has no data".to_owned(), |found| format!("is {}", format_figure(self.figure.kind, found)));
        Err(Error::new(Exit::Negative, format!("--fail-if '{}' failed: {} {found}", self.text, self.figure.name)))
    }
}

/// Reports the conditions that hold on a summary, and returns the exit code of the run. Any other failure takes
/// precedence over a condition that holds.
pub(super) fn check_all(conditions: &[FailIf], summary: &impl Serialize, exit: Exit, output: &mut Output) -> Exit {
    let summary = if conditions.is_empty() { Value::Null } else { serde_json::to_value(summary).unwrap_or_default() };
    let target = summary["target"].as_str().unwrap_or_default();
    let mut failed = false;
    for error in conditions.iter().filter_map(|condition| condition.check(&summary).err()) {
        output.report_error(&error.with_context(target));
        failed = true;
    }
    if failed && exit == Exit::Success { Exit::Negative } else { exit }
}

/// Finds a figure by its whole name, or by an unambiguous end of it.
fn find(known: &[Figure], name: &str) -> Result<Option<Figure>, String> {
    if let Some(exact) = known.iter().find(|figure| figure.name == name) {
        return Ok(Some(exact.clone()));
    }
    let end = format!(".{name}");
    let found: Vec<&Figure> = known.iter().filter(|figure| !name.is_empty() && figure.name.ends_with(&end)).collect();
    match found[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        [first, second, ..] => Err(format!("'{name}' is ambiguous; write {} or {}", first.name, second.name)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a limit of more than 100 days may lose nanoseconds")]
fn parse_limit(kind: FigureKind, limit: &str) -> Result<f64, String> {
    match kind {
        FigureKind::Ratio => parse_arg::<Probability>(limit).map(Probability::value).map_err(|error| one_line(&error)),
        FigureKind::Time => duration(limit).map(|limit| nanoseconds(limit) as f64),
        FigureKind::Number => {
            let is_plain = !limit.is_empty() && limit.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            limit.parse().ok().filter(|_| is_plain).ok_or_else(|| "expected a number as the limit".to_owned())
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "nanoseconds are whole and positive")]
fn format_figure(kind: FigureKind, value: f64) -> String {
    match kind {
        FigureKind::Ratio => format!("{:.1} %", value * 100.0),
        FigureKind::Time => HumanDuration(Duration::from_nanos(value as u64)).to_string(),
        FigureKind::Number => value.to_string(),
    }
}

/// Names of all figures; the statistics of a series of durations are listed once.
fn list(known: &[Figure]) -> String {
    const STATISTICS: [&str; 9] = ["count", "min", "mean", "p50", "p90", "p95", "p99", "max", "stddev"];
    let series_of = |figure: &Figure| {
        let (series, statistic) = figure.name.rsplit_once('.')?;
        STATISTICS.contains(&statistic).then(|| format!("{series}.STAT"))
    };
    let mut names: Vec<String> =
        known.iter().map(|figure| series_of(figure).unwrap_or_else(|| figure.name.clone())).collect();
    names.dedup();
    format!("{}; STAT is {}", names.join(", "), STATISTICS.join(", "))
}

#[cfg(test)]
mod tests {
    use super::FailIf;
    use crate::stats::DurationSummary;
    use schemars::JsonSchema;
    use serde_json::{Value, json};

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Sample {
        #[schemars(range(min = 0.0, max = 1.0))]
        loss: Option<f64>,
        late: u64,
        jitter_ns: Option<u64>,
        rtt: Option<DurationSummary>,
        ways: Option<Ways>,
        name: String,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Ways {
        lost_up: u64,
        server: Option<DurationSummary>,
    }

    fn parse(text: &str) -> Result<FailIf, String> {
        FailIf::parse::<Sample>(text)
    }

    fn fails(text: &str, summary: &Value) -> bool {
        parse(text).expect(text).check(summary).is_err()
    }

    #[test]
    fn a_condition_holds_or_fails_at_its_limit() {
        let summary = json!({"loss": 0.05, "late": 3, "rtt": {"p99_ns": 21_000_000}, "ways": {"lost_up": 2}});
        for (text, expected) in [
            ("loss>5%", false),
            ("loss>=5%", true),
            ("loss < 1/20", false),
            ("loss<0.051", true),
            ("late<=3", true),
            ("late<3", false),
            ("rtt.p99>20ms", true),
            ("rtt.p99>0.022", false),
            ("lost_up>1", true),
            ("ways.lost_up>2", false),
        ] {
            assert_eq!(fails(text, &summary), expected, "{text}");
        }
    }

    #[test]
    fn a_figure_without_data_fails_its_condition() {
        let summary = json!({"loss": null, "rtt": null});
        assert!(fails("rtt.p99>20ms", &summary) && fails("loss<5%", &summary));
    }

    #[test]
    fn invalid_conditions_list_the_figures() {
        for text in ["loss", "rtt>1ms", "rtt.p98>1ms", "loss.p99>1%", "speed>1", "name>1", ">5%"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("rtt.STAT") && error.contains("late"), "{text}: {error}");
        }
        for text in ["loss>", "loss>x", "loss>5", "late>1e3", "late>5%", "jitter>x"] {
            assert!(parse(text).expect_err(text).contains("expected"), "{text}");
        }
        assert!(parse("p99>1ms").expect_err("two series").contains("write rtt.p99 or ways.server.p99"));
        assert!(parse("jitter>5").is_ok(), "a bare number is seconds");
    }
}
