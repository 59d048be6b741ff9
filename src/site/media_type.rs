//! Media types: by file name extension from the table of `mime_guess`, corrected where that is wrong or where the content
//! decides.
//!
//! Text is declared as UTF-8 only if it is: a header outranks the declaration of the document itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use super::root::FileStatus;
use crate::protocol::{is_text, is_utf8};

/// Bytes at the beginning of a file that are inspected.
const SAMPLE_SIZE: usize = 4096;
/// Maximum number of files whose type is remembered.
const MAX_REMEMBERED: usize = 1024;

/// Types that `mime_guess` lacks or has wrong for a web site. An empty type is decided by the content.
const CORRECTIONS: [(&str, &str); 24] = [
    ("mjs", "text/javascript"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("svgz", "image/svg+xml"),
    ("rpm", "application/x-rpm"),
    ("ts", ""),
    ("mts", ""),
    ("obj", ""),
    ("go", ""),
    ("java", ""),
    ("rb", ""),
    ("kt", ""),
    ("ps1", ""),
    ("patch", ""),
    ("diff", ""),
    ("sha256", ""),
    ("jsonl", ""),
    ("ipynb", "application/json"),
    ("sh", ""),
    ("py", ""),
    ("rs", ""),
    ("c", ""),
    ("h", ""),
    ("tex", ""),
];

/// Media type and coding of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType {
    /// Value of Content-Type.
    pub name: String,
    /// Value of Content-Encoding, for a file that is compressed by definition.
    pub encoding: Option<&'static str>,
}

/// Media types of one thread. Remembers the files that were inspected.
#[derive(Debug)]
pub(crate) struct MediaTypes {
    /// Types by extension that the user gave.
    given: Vec<(String, String)>,
    remembered: RefCell<HashMap<FileStatus, (OsString, Rc<MediaType>)>>,
}

impl MediaTypes {
    pub(crate) fn new(given: &[(String, String)]) -> Self {
        Self { given: given.to_vec(), remembered: RefCell::default() }
    }

    /// Returns the media type of an open file.
    pub(crate) fn of(&self, name: &Path, file: &File, status: &FileStatus) -> Rc<MediaType> {
        let name = name.file_name().unwrap_or_default();
        let mut remembered = self.remembered.borrow_mut();
        match remembered.get(status) {
            Some((known, media_type)) if known == name => return Rc::clone(media_type),
            _ => {}
        }
        let mut sample = vec![0; SAMPLE_SIZE];
        let length = file.read_at(&mut sample, 0).unwrap_or_default();
        sample.truncate(length);
        let media_type = Rc::new(self.inspect(name, &sample));
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(*status, (name.to_owned(), Rc::clone(&media_type)));
        media_type
    }

    fn inspect(&self, name: &OsStr, sample: &[u8]) -> MediaType {
        let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
        let encoding = (extension == "svgz").then_some("gzip");
        let find = |table: &[(String, String)]| {
            table.iter().find(|(known, _)| known.eq_ignore_ascii_case(&extension)).map(|(_, kind)| kind.clone())
        };
        if let Some(name) = find(&self.given) {
            return MediaType { name, encoding };
        }
        let corrected = CORRECTIONS.iter().find(|(known, _)| *known == extension).map(|(_, kind)| (*kind).to_owned());
        let guessed = || mime_guess::from_path(name).first_raw().unwrap_or_default().to_owned();
        let name = match corrected.unwrap_or_else(guessed) {
            unknown if unknown.is_empty() && !sample.is_empty() && is_text(sample) => {
                "text/plain; charset=utf-8".to_owned()
            }
            unknown if unknown.is_empty() => binary_type(&extension).to_owned(),
            text if text.starts_with("text/") && !text.contains("charset") && is_sample_utf8(sample) => {
                text + "; charset=utf-8"
            }
            other => other,
        };
        MediaType { name, encoding }
    }
}

/// Type of binary content; `.ts` is also the extension of MPEG streams.
fn binary_type(extension: &str) -> &'static str {
    if matches!(extension, "ts" | "mts") { "video/mp2t" } else { "application/octet-stream" }
}

/// Returns whether a sample is UTF-8; only the last character of a full one may be cut off.
fn is_sample_utf8(sample: &[u8]) -> bool {
    if sample.len() == SAMPLE_SIZE { is_utf8(sample) } else { std::str::from_utf8(sample).is_ok() }
}

#[cfg(test)]
mod tests {
    use super::{MediaType, MediaTypes, SAMPLE_SIZE};
    use std::ffi::OsStr;

    fn inspect(name: &str, sample: &[u8]) -> MediaType {
        MediaTypes::new(&[("lab".into(), "text/x-lab".into())]).inspect(OsStr::new(name), sample)
    }

    #[test]
    fn common_files_have_their_types() {
        for (name, expected) in [
            ("HelloWorld.html", "text/html; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("README.txt", "text/plain; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.PNG", "image/png"),
            ("a.svg", "image/svg+xml"),
            ("a.json", "application/json"),
            ("a.wasm", "application/wasm"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.rpm", "application/x-rpm"),
            ("a.lab", "text/x-lab"),
        ] {
            assert_eq!(inspect(name, b"hello").name, expected, "{name}");
        }
        assert_eq!(inspect("a.svgz", b"\x1f\x8b"), MediaType { name: "image/svg+xml".into(), encoding: Some("gzip") });
    }

    #[test]
    fn a_charset_is_declared_only_if_it_is_true() {
        assert_eq!(inspect("a.html", "grüße".as_bytes()).name, "text/html; charset=utf-8");
        let long = "x".to_owned() + &"é".repeat(SAMPLE_SIZE);
        let full = &long.as_bytes()[..SAMPLE_SIZE];
        assert_eq!(inspect("a.html", full).name, "text/html; charset=utf-8", "a full sample ends within a character");
        assert_eq!(inspect("a.html", b"caf\xe9").name, "text/html", "ISO 8859-1 at the end");
        assert_eq!(inspect("a.html", b"gr\xfc\xdfe").name, "text/html", "ISO 8859-1: the document declares it");
    }

    #[test]
    fn unknown_names_are_shown_if_they_are_text() {
        for name in ["README", "LICENSE", "Makefile", "main.go", "a.ts", "a.sha256", "a.unknown"] {
            assert_eq!(inspect(name, b"plain words\n").name, "text/plain; charset=utf-8", "{name}");
        }
        assert_eq!(inspect("core", b"\x7fELF\x02\0").name, "application/octet-stream");
        assert_eq!(inspect("a.ts", b"G@\0\x10\0").name, "video/mp2t");
        assert_eq!(inspect("empty", b"").name, "application/octet-stream");
    }
}
