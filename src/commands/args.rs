//! Argument types and flags that mean the same in every subcommand: durations, sizes, trust.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::mac::MacKey;
use crate::net::Address;
use crate::net::tls::{Pin, TlsOptions};
use crate::smtp::is_domain_or_address_literal;
use crate::stop::StopConditions;

/// Longest duration of a flag; a larger value is probably a typo.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Parses a duration: humantime's format (`200ms`, `2m 30s`), with fractions (`1.5s`), or a bare number
/// of seconds (`0.2`).
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as 200ms, 1.5s or 2m";
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "" | "s" => Some(1.0),
        "ms" => Some(1e-3),
        "us" => Some(1e-6),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    // Only digits and one dot: Rust's own parser also accepts `inf`, `1e400` and `+1`.
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let parsed = match (seconds, number.parse::<f64>()) {
        (Some(seconds), Ok(number)) if is_plain => Duration::try_from_secs_f64(number * seconds).ok(),
        _ => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(duration) if duration <= MAX_DURATION => Ok(duration),
        Some(_) => Err("expected a duration of at most a hundred years".to_owned()),
        None => Err(EXPECTED.to_owned()),
    }
}

/// Parses a duration longer than zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|duration| {
        if duration.is_zero() { Err("expected a duration longer than zero".to_owned()) } else { Ok(duration) }
    })
}

/// Parses a size: `1200`, `64k` or `64KiB` (1024 each), `1MB` (1000 each).
pub(super) fn size(text: &str) -> Result<usize, String> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: Option<usize> = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    let size = number.parse().ok().zip(factor).and_then(|(number, factor): (usize, _)| number.checked_mul(factor));
    size.ok_or_else(|| "expected a number of bytes such as 1200, 64k or 1MiB".to_owned())
}

/// Returns a parser for a whole number within `range`.
pub(super) fn number<T>(range: impl RangeBounds<T> + Clone) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display,
{
    move |text| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text.parse().ok().filter(|number| is_plain && range.contains(number));
        parsed.ok_or_else(|| match (range.start_bound(), range.end_bound()) {
            (Bound::Included(min), Bound::Included(max)) => format!("expected a whole number from {min} to {max}"),
            (Bound::Included(min), _) if is_plain => {
                format!("expected a whole number, {min} or more, that fits 64 bits")
            }
            (Bound::Included(min), _) => format!("expected a whole number, {min} or more"),
            _ => "expected a whole number".to_owned(),
        })
    }
}

/// Returns a parser for one of these names, which shells complete.
pub(super) fn choice<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Into<Error>> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>().map_err(Into::into))
}

/// Parses `--threads`: one thread per core without a number.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    const MAX_THREADS: usize = 1024;
    match text {
        "" => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        text => match text.parse() {
            Ok(number @ 1..=MAX_THREADS) => Ok(number),
            _ => Err(format!("expected a number from 1 to {MAX_THREADS}, or nothing for one per core")),
        },
    }
}

/// Parses a host name for EHLO or a greeting.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    if is_domain_or_address_literal(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a domain name or [ADDRESS]".to_owned())
    }
}

/// Flags that say which server certificates a client accepts and which one it presents.
#[derive(Debug, Default, Args)]
pub(super) struct TrustArgs {
    /// Also trust this CA or server certificate (PEM); repeatable
    #[arg(long, help_heading = "TLS", value_name = "FILE", hide_short_help = true)]
    ca: Vec<PathBuf>,

    /// Accept only a certificate or key with this SHA-256; repeatable
    ///
    /// SHA-256 of the certificate in hexadecimal, as 'openssl x509 -fingerprint -sha256' prints it, or
    /// sha256//BASE64 of its public key, as in curl. The CA, the name and the dates are then not checked.
    #[arg(long, help_heading = "TLS", value_name = "HASH", value_parser = parse_arg::<Pin>, conflicts_with_all = ["ca", "insecure"], hide_short_help = true)]
    pin: Vec<Pin>,

    /// Accept any certificate (no verification)
    #[arg(long, help_heading = "TLS", hide_short_help = true)]
    pub insecure: bool,

    /// Client certificate, for a server that asks for one (PEM)
    #[arg(long, help_heading = "TLS", value_name = "FILE", hide_short_help = true)]
    cert: Option<PathBuf>,

    /// Key of the client certificate, if not in the same file (PEM)
    #[arg(long, help_heading = "TLS", value_name = "FILE", requires = "cert", hide_short_help = true)]
    key: Option<PathBuf>,
}

impl TrustArgs {
    /// Returns true if any of the flags was given.
    pub(super) fn is_given(&self) -> bool {
        let Self { ca, pin, insecure, cert, key: _ } = self;
        *insecure || cert.is_some() || !ca.is_empty() || !pin.is_empty()
    }

    /// Converts the flags to [`TlsOptions`].
    pub(super) fn trust(&self) -> TlsOptions {
        let key = |cert: &PathBuf| self.key.clone().unwrap_or_else(|| cert.clone());
        TlsOptions {
            ca_files: self.ca.clone(),
            pins: self.pin.clone(),
            insecure: self.insecure,
            client_certificate: self.cert.as_ref().map(|cert| (cert.clone(), key(cert))),
        }
    }
}

/// Formats the addresses of a server for the ready file and the `listening` event.
pub(super) fn address_strings<'a>(addresses: impl Iterator<Item = &'a Address>) -> Vec<String> {
    addresses.map(ToString::to_string).collect()
}

/// Parses a value whose error carries its own message, expectation and exit code.
pub(super) fn parse_arg<T: FromStr<Err: Into<Error>>>(text: &str) -> Result<T> {
    text.parse().map_err(Into::into)
}

/// Formats an error in one line, for a part of a value.
pub(super) fn one_line(error: &Error) -> String {
    let expected = error.expectation().map(|expected| format!("; expected {expected}")).unwrap_or_default();
    let advice = error.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
    format!("{}{expected}{advice}", error.message())
}

/// Reads a file that only its owner may read, without its trailing line end.
pub(super) fn read_private(path: &Path, description: &str, stop: &StopConditions) -> Result<Vec<u8>> {
    let (bytes, is_private) = crate::disk::read_secret(path, stop)?;
    if is_private {
        return Ok(bytes);
    }
    Err(Error::new(Exit::Permission, format!("'{}' is readable by other users", path.display()))
        .expected(format!("{description} with mode 0600"))
        .remedy(format!("chmod 600 {}", path.display())))
}

/// Reads a MAC key from a private file, without its trailing line end.
pub(super) fn read_key(path: &Path, stop: &StopConditions) -> Result<MacKey> {
    let bytes = read_private(path, "a key file", stop)?;
    if bytes.is_empty() {
        return Err(Error::new(Exit::Config, format!("{} is empty", path.display())).expected("a key"));
    }
    Ok(MacKey::new(&bytes))
}

#[cfg(test)]
mod tests {
    use super::{duration, positive_duration, threads};
    use std::time::Duration;

    #[test]
    fn durations_have_units_fractions_or_are_bare_seconds() {
        for (text, millis) in [
            ("200ms", 200),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("2m 30s", 150_000),
            ("0.2", 200),
            ("5", 5000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("1.5us"), Ok(Duration::from_nanos(1500)));
    }

    #[test]
    fn invalid_durations_report_the_expected_format() {
        for text in ["", "-1s", "NaN", "inf", "1e400s", "+1s", "1.2.3s", "five", "1x", "1e3", "٥s"] {
            let error = duration(text).expect_err(text);
            assert!(error.contains("1.5s"), "{text}: {error}");
        }
        assert!(duration("99999999999h").is_err_and(|error| error.contains("a hundred years")));
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn threads_are_a_number_or_one_per_core() {
        assert!(threads("").is_ok_and(|count| count >= 1));
        assert_eq!(threads("3"), Ok(3));
        for text in ["0", "-1", "x", "1025"] {
            assert!(threads(text).is_err(), "{text}");
        }
    }
}
