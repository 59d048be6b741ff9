//! Request as given on the command line: URLs, header fields, a body.
//!
//! Owns their parsing, the request built from them for each origin, and its changes on a redirect.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};

use crate::commands::header_field::HeaderField;
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::io_error_text;
use crate::http::{RequestHead, is_token};
use crate::mac::Secret;
use crate::stop::StopConditions;

/// An http or https URL, with its credentials kept apart so that they are never shown.
#[derive(Clone)]
pub(super) struct Target {
    url: Url,
    /// Value of the Authorization field.
    authorization: Option<Secret>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("url", &self.as_str()).finish_non_exhaustive()
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("a URL cannot contain spaces or control characters; write %20 for a space".to_owned());
        }
        let with_scheme =
            if text.contains("://") { text.to_owned() } else { format!("http://{}", reject_other_scheme(text)?) };
        let url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
        Self::from_url(url)
    }
}

/// Returns an invalid URL without possible credentials.
pub(super) fn masked(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

/// Rejects other schemes, such as `file:/x` and `mailto:x`, but not `host:8080/x`.
fn reject_other_scheme(text: &str) -> Result<&str, String> {
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@').map_or(authority, |(_, host)| host).rsplit_once(':') {
        Some((scheme, port))
            if !authority.ends_with(']') && (port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) =>
        {
            Err(format!("expected http:// or https://, got '{scheme}:'"))
        }
        _ => Ok(text),
    }
}

impl Target {
    fn from_url(mut url: Url) -> Result<Self, String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("expected http:// or https://, got '{}:'", url.scheme()));
        }
        if url.port() == Some(0) {
            return Err("invalid port 0; expected 1 to 65535".to_owned());
        }
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
            let pair = [decode(url.username()), b":".to_vec(), decode(url.password().unwrap_or_default())].concat();
            // RFC 7617 §2.
            Secret::new(format!("Basic {}", STANDARD.encode(pair)).into_bytes())
        });
        // An http URL always has a host, so its credentials can be removed.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(Self { url, authorization })
    }

    /// Returns the URL without credentials.
    pub(super) fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Returns the host name or address, IPv6 without brackets.
    pub(super) fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// Returns the file name for `-O`: the last segment of the path, as written in the URL.
    pub(super) fn file_name(&self) -> Result<PathBuf> {
        let name = self.url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
        if name.is_empty() {
            return Err(Error::new(Exit::Usage, format!("no file name in the URL '{}'", self.url))
                .remedy("name the file with -o FILE"));
        }
        Ok(PathBuf::from(name))
    }

    /// Resolves the Location of a redirect and checks that it is allowed.
    pub(super) fn resolve_redirect(&self, location: &[u8]) -> Result<Self> {
        let forbidden = |why: String| Error::new(Exit::Protocol, why).expected("an http:// or https:// URL");
        let location =
            std::str::from_utf8(location).map_err(|_| forbidden("invalid redirect: Location is not a URL".into()))?;
        let url = self
            .url
            .join(location)
            .map_err(|error| forbidden(format!("invalid redirect to '{}': {error}", masked(location))))?;
        let target = Self::from_url(url)
            .map_err(|reason| Error::new(Exit::Protocol, format!("redirect not allowed: {reason}")))?;
        if self.is_secure() && !target.is_secure() {
            return Err(forbidden(format!("redirect from https to '{}' not allowed", target.as_str()))
                .remedy("fetch that URL directly if an unencrypted connection is acceptable"));
        }
        // Credentials in a Location come from the server, not from the user.
        let authorization = if self.is_same_origin(&target) { self.authorization.clone() } else { None };
        Ok(Self { authorization, ..target })
    }

    /// Returns true if both have the same scheme, host and port (RFC 6454 §5).
    pub(super) fn is_same_origin(&self, other: &Self) -> bool {
        self.url.origin() == other.url.origin()
    }
}

/// Fields that are not sent to another origin.
const ORIGIN_BOUND_FIELDS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "host"];

/// Parses the method of `-X`.
pub(super) fn method(text: &str) -> Result<String, String> {
    if is_token(text.as_bytes()) {
        Ok(text.to_owned())
    } else {
        Err("expected a method such as GET or POST".to_owned())
    }
}

/// Request for every URL, before redirects change it.
#[derive(Clone, Debug)]
pub(super) struct RequestTemplate {
    pub method: String,
    fields: Vec<HeaderField>,
    pub body: Option<Vec<u8>>,
}

impl RequestTemplate {
    /// Without a method, uses POST if there is a body, else GET.
    pub(super) fn new(method: Option<&str>, fields: &[HeaderField], body: Option<Vec<u8>>) -> Self {
        let method = method.unwrap_or(if body.is_some() { "POST" } else { "GET" }).to_owned();
        Self { method, fields: fields.to_vec(), body }
    }

    /// Builds the request head for `target`.
    pub(super) fn head_for(&self, target: &Target) -> RequestHead {
        let given = |name: &str| self.fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: &str| fields.push((name.to_owned(), value.to_owned()));
        if !given("host") {
            let url = &target.url;
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            add("Host", &format!("{}{port}", url.host_str().unwrap_or_default()));
        }
        if !given("user-agent") {
            add("User-Agent", concat!("netlab/", env!("CARGO_PKG_VERSION")));
        }
        if !given("accept") {
            add("Accept", "*/*");
        }
        if let Some(secret) = target.authorization.as_ref().filter(|_| !given("authorization")) {
            add("Authorization", &String::from_utf8_lossy(secret.expose()));
        }
        if let Some(body) = &self.body {
            add("Content-Length", &body.len().to_string());
            if !given("content-type") {
                add("Content-Type", "application/x-www-form-urlencoded");
            }
        }
        self.fields.iter().for_each(|field| add(&field.name, &field.value));
        // One request per connection, so that each fetch measures every phase.
        add("Connection", "close");
        let url = &target.url;
        let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
        RequestHead { method: self.method.clone(), target: format!("{}{query}", url.path()), fields }
    }

    /// Returns the request after a redirect (RFC 9110 §15.4): GET after 303, and after 301 and 302 in response to
    /// POST. Fields bound to an origin are not sent to another.
    pub(super) fn after_redirect(&self, status: u16, crosses_origins: bool) -> Self {
        let becomes_get = match status {
            303 => self.method != "HEAD",
            301 | 302 => self.method == "POST",
            _ => false,
        };
        let mut next = self.clone();
        if becomes_get {
            next.method = "GET".to_owned();
            next.body = None;
            next.fields.retain(|field| !field.name.to_ascii_lowercase().starts_with("content-"));
        }
        if crosses_origins {
            next.fields.retain(|field| !ORIGIN_BOUND_FIELDS.iter().any(|bound| field.name.eq_ignore_ascii_case(bound)));
        }
        next
    }
}

/// Reads the body of `-d`: the text itself, `@FILE` or `@-`.
pub(super) fn read_body(data: &str, stop: &StopConditions) -> Result<Vec<u8>> {
    let Some(path) = data.strip_prefix('@') else { return Ok(data.as_bytes().to_owned()) };
    disk::read_input(path.as_ref(), stop).map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::TimedOut => Exit::TemporaryFailure,
            io::ErrorKind::NotFound => Exit::InputMissing,
            io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Io,
        };
        Error::new(exit, format!("cannot read '{path}': {}", io_error_text(&error)))
            .expected("a readable file with the request body")
            .with_source(error)
    })
}

/// Joins a host, a port and a file that were typed as words, as textbooks write them; returns a note about it.
pub(super) fn join_textbook_url(words: &[String]) -> (Vec<String>, Option<String>) {
    let (host, port, file) = match words {
        [host, port] => (host, port, ""),
        [host, port, file] => (host, port, file.trim_start_matches('/')),
        _ => return (words.to_vec(), None),
    };
    let is_host = !host.is_empty() && !host.contains(['/', ':']);
    if !is_host || !port.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(port.parse::<u16>(), Ok(1..)) {
        return (words.to_vec(), None);
    }
    let url = format!("http://{host}:{port}/{file}");
    let note = format!("note: '{}' is read as {url}", words.join(" "));
    (vec![url], Some(note))
}

#[cfg(test)]
mod tests {
    use super::{RequestTemplate, Target};
    use crate::commands::header_field::HeaderField;

    fn target(text: &str) -> Target {
        text.parse().expect("a URL")
    }

    #[test]
    fn a_url_may_omit_its_scheme() {
        for (text, shown) in [
            ("localhost:6789/x", "http://localhost:6789/x"),
            ("127.0.0.1", "http://127.0.0.1/"),
            ("[::1]:80/a?b#c", "http://[::1]/a?b"),
            ("https://h", "https://h/"),
            ("HTTP://H/", "http://h/"),
        ] {
            assert_eq!(target(text).as_str(), shown);
        }
    }

    #[test]
    fn other_urls_are_rejected() {
        for text in [
            "ftp://h/",
            "file:///etc/passwd",
            "file:/etc/passwd",
            "http://",
            "http://a b/",
            "http://h:0/",
            "http://h:65536/",
            "a\nb",
            "",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let target = target("http://user:p%40ss@h/");
        assert_eq!(target.as_str(), "http://h/");
        assert!(!format!("{target:?}").contains("p%40ss") && !format!("{target:?}").contains("dXNlc"));
        let request = RequestTemplate::new(None, &[], None);
        let head = request.head_for(&target);
        assert!(head.fields.contains(&("Authorization".into(), "Basic dXNlcjpwQHNz".into())), "{:?}", head.fields);
    }

    #[test]
    fn origin_bound_fields_are_not_sent_to_another_origin() {
        let from = target("http://user:pw@a/");
        let fields = ["Cookie: c", "X-Y: z", "Authorization: Bearer t", "Host: other"]
            .map(|text| text.parse::<HeaderField>().expect("a field"));
        let request = RequestTemplate::new(None, &fields, None);
        let names = |target: &Target, request: &RequestTemplate| {
            let mut names: Vec<_> = request.head_for(target).fields.into_iter().map(|(name, _)| name).collect();
            names.retain(|name| ["Cookie", "X-Y", "Authorization"].contains(&name.as_str()));
            names
        };
        let same = from.resolve_redirect(b"/x").expect("a URL");
        assert_eq!(names(&same, &request.after_redirect(302, false)).len(), 3);
        let other = from.resolve_redirect(b"http://evil:pw@b/x").expect("a URL");
        assert_eq!(names(&other, &request.after_redirect(302, true)), ["X-Y"]);
    }

    #[test]
    fn a_redirect_leads_to_http_urls_and_never_from_https_to_http() {
        let from = target("https://a/b/c");
        assert_eq!(from.resolve_redirect(b"../d").expect("a URL").as_str(), "https://a/d");
        for bad in [&b"http://a/"[..], b"file:///etc/passwd", b"ftp://a/", b"\xff", b"https://a:0/"] {
            assert!(from.resolve_redirect(bad).is_err());
        }
    }

    #[test]
    fn some_redirects_change_post_to_get() {
        let fields = ["Content-Type: text/plain".parse::<HeaderField>().expect("a field")];
        let post = RequestTemplate::new(None, &fields, Some(b"x".to_vec()));
        for (status, method) in [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")] {
            let next = post.after_redirect(status, false);
            assert_eq!(next.method, method, "{status}");
            assert_eq!(next.body.is_some(), method == "POST");
        }
        let put = RequestTemplate::new(Some("PUT"), &[], Some(b"x".to_vec()));
        assert_eq!(put.after_redirect(302, false).method, "PUT");
    }

    #[test]
    fn a_field_cannot_break_the_head_or_its_framing() {
        for text in ["X", "X Y: z", ": z", "X: a\r\nY: b", "Content-Length: 5", "transfer-encoding: chunked"] {
            assert!(text.parse::<HeaderField>().is_err(), "{text}");
        }
        assert!("X:".parse::<HeaderField>().is_ok());
    }
}
