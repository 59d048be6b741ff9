//! Mapping of a URL path to a path beneath the root: a pure function, tested with known traversal attacks.
//!
//! Owns the order of the steps: decode once, split, then remove dot segments (RFC 3986 §5.2.4, RFC 9110 §17.3).
//! Servers that decoded twice, or looked for `..` before decoding, were open to path traversal. The kernel checks
//! the same again when the file is opened.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

/// Bytes to escape in a path segment (RFC 3986 §3.3), including those with a meaning in HTML or a shell.
const SEGMENT: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Path beneath the root, without `.`, `..`, empty segments and NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SitePath {
    segments: Vec<Vec<u8>>,
    is_directory: bool,
}

/// Reason why a URL path is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// `%` without two hexadecimal digits, or `%00`.
    InvalidEscape,
    /// `..` above the root.
    AboveRoot,
}

impl SitePath {
    /// Parses the path of an origin-form target; a query is ignored.
    pub(crate) fn parse(target: &str) -> Result<Self, PathError> {
        let path = target.split('?').next().unwrap_or_default();
        let decoded = decode(path.as_bytes())?;
        let mut segments = Vec::new();
        let mut is_directory = true;
        for segment in decoded.split(|byte| *byte == b'/') {
            is_directory = matches!(segment, b"" | b"." | b"..");
            match segment {
                b"" | b"." => {}
                b".." => {
                    segments.pop().ok_or(PathError::AboveRoot)?;
                }
                name => segments.push(name.to_owned()),
            }
        }
        Ok(Self { segments, is_directory })
    }

    /// Path of a file in this directory.
    #[must_use]
    pub(crate) fn child(&self, name: &[u8]) -> Self {
        let mut segments = self.segments.clone();
        segments.push(name.to_owned());
        Self { segments, is_directory: false }
    }

    /// Path of a file beside this one, with an ending added to its name.
    #[must_use]
    pub(crate) fn with_suffix(&self, suffix: &str) -> Self {
        let mut path = self.clone();
        if let Some(name) = path.segments.last_mut() {
            name.extend_from_slice(suffix.as_bytes());
        }
        path
    }

    /// Path of a file in the root.
    pub(crate) fn of_file(name: &[u8]) -> Self {
        Self { segments: vec![name.to_owned()], is_directory: false }
    }

    /// Path of a file below the root; `None` if the path is absolute, empty or leads up.
    pub(crate) fn of_relative(path: &Path) -> Option<Self> {
        let names = path.components().filter(|component| *component != Component::CurDir);
        let names = names.map(|component| match component {
            Component::Normal(name) => Some(name.as_bytes().to_vec()),
            _ => None,
        });
        let segments: Vec<_> = names.collect::<Option<_>>()?;
        (!segments.is_empty()).then_some(Self { segments, is_directory: false })
    }

    /// Returns whether a name begins with a dot; those below `/.well-known/` are public by definition (RFC 8615).
    pub(crate) fn has_dot_name(&self) -> bool {
        let names = match self.segments.split_first() {
            Some((first, rest)) if first == b".well-known" => rest,
            _ => &self.segments,
        };
        names.iter().any(|name| name.starts_with(b"."))
    }

    /// Returns true if the URL ends in `/` and so names a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.is_directory
    }

    pub(crate) fn is_root(&self) -> bool {
        self.segments.is_empty()
    }

    /// Names of the directories and the file.
    pub(super) fn names(&self) -> &[Vec<u8>] {
        &self.segments
    }

    /// Returns the path relative to the root, `.` for the root itself.
    pub(crate) fn relative(&self) -> Vec<u8> {
        if self.segments.is_empty() { b".".to_vec() } else { self.segments.join(&b'/') }
    }

    /// Returns the path of a directory as text.
    pub(crate) fn display(&self) -> String {
        let text = String::from_utf8_lossy(&self.segments.join(&b'/')).into_owned();
        if text.is_empty() { "/".to_owned() } else { format!("/{text}/") }
    }

    /// Returns the file name, for its media type.
    pub(crate) fn file_name(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.segments.last().map_or(b"", |name| name)))
    }

    /// Returns the last segment as a relative reference to a directory (RFC 3986 §4.2). It begins with `./`: a name with a
    /// colon would be parsed as a scheme, and `//` as another host (CVE-2021-28861).
    pub(crate) fn relative_directory_url(&self) -> String {
        format!("./{}/", escape_segment(self.segments.last().map_or(b"", |name| name)))
    }
}

/// Escapes a file name as one segment of a URL path.
pub(super) fn escape_segment(name: &[u8]) -> impl std::fmt::Display + '_ {
    percent_encode(name, &SEGMENT)
}

fn decode(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        match rest.get(at + 1..at + 3) {
            Some(b"00") | None => return Err(PathError::InvalidEscape),
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = rest.get(at + 3..).unwrap_or_default(),
            Some(_) => return Err(PathError::InvalidEscape),
        }
    }
    Ok(percent_decode(path).collect())
}

#[cfg(test)]
mod tests {
    use super::{PathError, SitePath};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::protocol::script::property_config())]

        #[test]
        fn no_path_leads_out_of_the_root(target in "([/.%?a0-9é]|%2e|%2F|%00|\\.\\.){0,40}") {
            let Ok(path) = SitePath::parse(&target) else { return Ok(()) };
            let relative = path.relative();
            prop_assert!(!relative.starts_with(b"/") && !relative.contains(&0));
            prop_assert!(relative.split(|byte| *byte == b'/').all(|name| name != b".." && (name != b"." || path.is_root())));
            let url = path.relative_directory_url();
            prop_assert!(url.starts_with("./") && url.ends_with('/'));
            let name = SitePath::parse(&url).expect("a path").relative();
            prop_assert!(path.is_root() || relative.ends_with(&name), "decoded once");
        }
    }

    fn parse(target: &str) -> Result<(String, bool), PathError> {
        SitePath::parse(target)
            .map(|path| (String::from_utf8_lossy(&path.relative()).into_owned(), path.is_directory()))
    }

    #[test]
    fn paths_are_decoded_once_split_and_normalised() {
        for (target, path, is_directory) in [
            ("/", ".", true),
            ("/a", "a", false),
            ("/a/", "a", true),
            ("/a/b.html?q=/../x", "a/b.html", false),
            ("/a%20b", "a b", false),
            ("//a///b", "a/b", false),
            ("/a/./b", "a/b", false),
            ("/a/.", "a", true),
            ("/a/../b", "b", false),
            ("/a/b/..", "a", true),
            ("/%2e/a", "a", false),
            ("/a%2fb", "a/b", false),
            ("/%252e%252e/", "%2e%2e", true),
            ("/...", "...", false),
            ("/%5c..", "\\..", false),
            ("/a%0d%0ab", "a\r\nb", false),
            ("//etc/passwd", "etc/passwd", false),
        ] {
            assert_eq!(parse(target), Ok((path.to_owned(), is_directory)), "{target}");
        }
    }

    #[test]
    fn a_path_above_the_root_is_rejected() {
        for target in ["/..", "/../x", "/a/../../x", "/%2e%2e/x", "/%2e%2e%2fx", "/..%2f", "/a/%2E%2E/../x", "//../x"] {
            assert_eq!(parse(target), Err(PathError::AboveRoot), "{target}");
        }
    }

    #[test]
    fn malformed_escapes_and_nul_are_rejected() {
        for target in ["/%", "/%1", "/%zz", "/a%00", "/%+1"] {
            assert_eq!(parse(target), Err(PathError::InvalidEscape), "{target}");
        }
    }

    #[test]
    fn a_directory_url_stays_on_this_host_and_on_one_line() {
        let url = |target| SitePath::parse(target).expect("within the root").relative_directory_url();
        assert_eq!(url("//evil.example"), "./evil.example/");
        assert_eq!(url("/a/b:c"), "./b:c/");
        assert_eq!(url("/a%0d%0aX:b"), "./a%0D%0AX:b/");
        assert_eq!(url("/%c3%a9 &<"), "./%C3%A9%20%26%3C/");
    }
}
