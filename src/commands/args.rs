//! Words that mean the same on every command line: durations, thread counts, where to listen.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::mac::MacKey;
use crate::net::tls::{Pin, TlsOptions};
use crate::net::{self, Address, BindAddress, Signals};
use crate::smtp::is_domain_or_address_literal;
use crate::time::Moment;

/// The longest duration a flag takes; beyond it a typo is likelier than a wish.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A duration: humantime's spelling (`200ms`, `2m 30s`), with fractions (`1.5s`), or a bare number
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
    // Only digits and one dot: Rust's own parser would take `inf`, `1e400` and `+1` too.
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let parsed = match (seconds, number.parse::<f64>()) {
        (Some(seconds), Ok(number)) if is_plain => Duration::try_from_secs_f64(number * seconds).ok(),
        _ => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(duration) if duration <= MAX_DURATION => Ok(duration),
        Some(_) => Err("expected a duration of a hundred years at most".to_owned()),
        None => Err(EXPECTED.to_owned()),
    }
}

/// A duration that is not zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|duration| {
        if duration.is_zero() { Err("expected a duration longer than zero".to_owned()) } else { Ok(duration) }
    })
}

/// A size: `1200`, `64k` or `64KiB` (1024 each), `1MB` (1000 each).
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
    size.ok_or_else(|| "expected a number of bytes, like 1200, 64k or 1MiB".to_owned())
}

/// `--threads`: one per core where no number is given.
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

/// A peer: `HOST[:PORT]`, IPv6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// The port, where one was typed.
    pub port: Option<u16>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("expected [ADDRESS]:PORT")?)),
            None if text.contains("://") => return Err("a URL is none: expected HOST or HOST:PORT".to_owned()),
            None if text.parse::<Ipv6Addr>().is_ok() => {
                return Err(format!("an IPv6 address wants brackets: [{text}] or [{text}]:PORT"));
            }
            None if text.starts_with('[') || text.matches(':').count() > 1 => {
                return Err("expected HOST, HOST:PORT or [ADDRESS]:PORT".to_owned());
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || "[]/@".contains(c)) {
            return Err("expected HOST or HOST:PORT".to_owned());
        }
        let port = port.map(|port| match port.parse() {
            Ok(port @ 1..) if has_numeric_port(text) => Ok(port),
            _ => Err("a port is a number from 1 to 65535".to_owned()),
        });
        Ok(Self { host: host.to_owned(), port: port.transpose()? })
    }
}

/// Rust's parser takes `+80`; a port is digits.
fn has_numeric_port(text: &str) -> bool {
    text.rsplit(':').next().is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Which family of addresses is wanted.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct FamilyArgs {
    /// IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6", hide_short_help = true, help_heading = "Network")]
    ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long = "ipv6", hide_short_help = true, help_heading = "Network")]
    ipv6: bool,
}

impl FamilyArgs {
    /// The address of a peer: the first one of the wanted family.
    pub(super) fn resolve(self, peer: &Peer, port: u16, signals: &mut Signals) -> Result<SocketAddr> {
        let addresses = self.resolve_all(peer, port, None, signals)?;
        Ok(addresses.first().copied().expect("whoever is found has an address"))
    }

    /// All addresses of the wanted family, at least one, found `until` then.
    pub(super) fn resolve_all(
        self,
        peer: &Peer,
        port: u16,
        deadline: Option<Moment>,
        signals: &mut Signals,
    ) -> Result<Vec<SocketAddr>> {
        let patience = net::now() + Duration::from_secs(30);
        let patience = deadline.map_or(patience, |until| until.min(patience));
        let mut addresses = net::resolve(&peer.host, peer.port.unwrap_or(port), patience, signals)?;
        // An IPv4 address in IPv6's clothes is reached, and its errors come, by IPv4.
        addresses.iter_mut().for_each(|address| address.set_ip(address.ip().to_canonical()));
        addresses.retain(|address| if address.is_ipv6() { !self.ipv4 } else { !self.ipv6 });
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        let family = if self.ipv4 { "IPv4" } else { "IPv6" };
        // An address is of one family for good; a name may have had another.
        let exit = if peer.host.parse::<IpAddr>().is_ok() { Exit::Usage } else { Exit::UnknownHost };
        Err(Error::new(exit, format!("{} has no {family} address", peer.host))
            .expected(format!("a target with an {family} address"))
            .remedy(format!("leave out -{}", if self.ipv4 { 4 } else { 6 })))
    }
}

impl Peer {
    /// The peer as it was typed, with its port.
    pub(super) fn host_and_port(&self, address: SocketAddr) -> String {
        match address {
            SocketAddr::V6(_) if self.host.contains(':') => format!("[{}]:{}", self.host, address.port()),
            _ => format!("{}:{}", self.host, address.port()),
        }
    }
}

/// What a mail host can call itself.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    if is_domain_or_address_literal(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a domain name or [ADDRESS]".to_owned())
    }
}

/// Which servers a client believes over TLS, and what it shows them.
#[derive(Debug, Default, Args)]
pub(super) struct TrustArgs {
    /// Trust this authority, or this very certificate, too (PEM); repeatable
    #[arg(long, help_heading = "TLS", value_name = "FILE", hide_short_help = true)]
    ca: Vec<PathBuf>,

    /// Trust only this certificate or key; repeatable
    ///
    /// The certificate's SHA-256 in hexadecimal, as 'openssl x509 -fingerprint -sha256' prints it, or
    /// sha256//BASE64 of its public key, as curl has it. Neither authority, name nor dates count then.
    #[arg(long, help_heading = "TLS", value_name = "HASH", value_parser = parse_arg::<Pin>, conflicts_with_all = ["ca", "insecure"], hide_short_help = true)]
    pin: Vec<Pin>,

    /// Believe any certificate
    #[arg(long, help_heading = "TLS", hide_short_help = true)]
    pub insecure: bool,

    /// The certificate to show to a server that asks for one (PEM)
    #[arg(long, help_heading = "TLS", value_name = "FILE", hide_short_help = true)]
    cert: Option<PathBuf>,

    /// The key of that certificate, if it is not in the same file (PEM)
    #[arg(long, help_heading = "TLS", value_name = "FILE", requires = "cert", hide_short_help = true)]
    key: Option<PathBuf>,
}

impl TrustArgs {
    /// Whether anything was said of it.
    pub(super) fn is_given(&self) -> bool {
        let Self { ca, pin, insecure, cert, key: _ } = self;
        *insecure || cert.is_some() || !ca.is_empty() || !pin.is_empty()
    }

    /// The same in the words of [`net::tls`].
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

/// The servers' addresses as the ready file and the first event name them.
pub(super) fn address_strings<'a>(addresses: impl Iterator<Item = &'a Address>) -> Vec<String> {
    addresses.map(ToString::to_string).collect()
}

/// Reads a value whose own error says what happened, what was expected, and the code.
pub(super) fn parse_arg<T: FromStr<Err = Error>>(text: &str) -> Result<T> {
    text.parse()
}

/// An error in the one line that a part of a value has.
pub(super) fn one_line(error: &Error) -> String {
    let parts = [Some(error.message()), error.expectation(), error.advice()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Reads a file that others must not be able to read; a line end behind it is no part of it.
pub(super) fn read_private(path: &Path, description: &str) -> Result<Vec<u8>> {
    let (octets, is_private) = crate::disk::read_secret(path)?;
    if is_private {
        return Ok(octets);
    }
    Err(Error::new(Exit::Permission, format!("{} can be read by others", path.display()))
        .expected(format!("{description} that only its owner can read"))
        .remedy(format!("chmod 600 {}", path.display())))
}

/// Reads a key: the octets of a file that others cannot read, less a line end.
pub(super) fn read_key(path: &Path) -> Result<MacKey> {
    let octets = read_private(path, "a key")?;
    if octets.is_empty() {
        return Err(Error::new(Exit::Config, format!("{} is empty", path.display())).expected("a key"));
    }
    Ok(MacKey::new(&octets))
}

/// Where a server listens, how it says that it does, and when it stops by itself.
#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// Where to listen; repeatable
    ///
    /// PORT is that port on both loopbacks, HOST:PORT on one address, *:PORT on every address (for
    /// everybody who can reach this machine), unix:PATH a Unix socket (HTTP and mail only). Port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    pub bind: Vec<BindAddress>,

    /// Write the addresses to FILE once listening
    ///
    /// The real ones, main one first, one per line; FILE appears in one step.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Stop after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration)]
    pub lifetime: Option<Duration>,
}

/// The same of a server with several threads.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    pub listen: ListenArgs,

    /// Worker threads; one per core without N
    ///
    /// Without this flag there is one.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "", default_value = "1", value_parser = threads, hide_default_value = true)]
    pub threads: usize,
}

impl ListenArgs {
    /// Where to listen, both loopbacks on the textbook's port unless told otherwise.
    pub(super) fn binds(&self, default_port: u16) -> Vec<BindAddress> {
        if self.bind.is_empty() { vec![BindAddress::Loopback(default_port)] } else { self.bind.clone() }
    }

    /// Writes the ready file, if one is wanted, with the addresses as a client needs them.
    pub(super) fn write_ready_file(&self, addresses: impl Iterator<Item = String>) -> Result<()> {
        let Some(file) = &self.ready_file else { return Ok(()) };
        let lines = addresses.fold(String::new(), |lines, address| lines + &address + "\n");
        crate::disk::replace(file, lines.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::{Peer, duration, positive_duration, threads};
    use std::time::Duration;

    #[test]
    fn durations_come_with_units_fractions_or_bare() {
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
    fn a_peer_is_a_host_with_or_without_a_port() {
        let peer = |text: &str| text.parse::<Peer>().map(|peer| (peer.host, peer.port));
        assert_eq!(peer("h"), Ok(("h".into(), None)));
        assert_eq!(peer("127.0.0.1:12000"), Ok(("127.0.0.1".into(), Some(12000))));
        assert_eq!(peer("[::1]"), Ok(("::1".into(), None)));
        assert_eq!(peer("[::1]:1"), Ok(("::1".into(), Some(1))));
        assert!(peer("::1:80").is_err_and(|error| error.contains("brackets")));
        for text in ["[::1", "127.0.0.1:1:2"] {
            assert!(peer(text).is_err_and(|error| !error.contains("[[") && !error.contains("[127")), "{text}");
        }
        for text in [
            "",
            ":80",
            "h:",
            "h:0",
            "h:65536",
            "h:-1",
            "h:+1",
            "h:٨",
            "[::1]80",
            "h h",
            "u@h",
            "h/x",
            "[::1",
            "1:2:3",
            "http://h/",
        ] {
            assert!(peer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn threads_are_counted_or_one_per_core() {
        assert!(threads("").is_ok_and(|count| count >= 1));
        assert_eq!(threads("3"), Ok(3));
        for text in ["0", "-1", "x", "1025"] {
            assert!(threads(text).is_err(), "{text}");
        }
    }
}
