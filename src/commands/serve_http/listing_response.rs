//! Response with the listing of a directory: a page, or JSON for programs.
//!
//! Owns the policy of the page and the JSON keys. The directory is read by a helper thread: it may have many entries.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::http::{BodyJob, Request, Response, ResponseBody, Status, accepted_by_name};
use crate::site::{self, DirEntry, EntryKind, Listing, Root, SitePath};
use crate::time::Moment;

/// Policy of the listing: no resource from elsewhere, and no script but its own.
static LISTING_POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = digest::digest(&digest::SHA256, site::listing_script().as_bytes());
    let hash = BASE64_STANDARD.encode(digest);
    format!("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{hash}'")
});

/// Directory to be listed.
pub(super) struct Directory {
    pub root: Arc<Root>,
    pub path: SitePath,
    pub descriptor: OwnedFd,
    /// Names that begin with a dot are listed too.
    pub is_hidden_shown: bool,
}

/// Returns the listing as JSON to a client that asks for it by name, else as a page.
pub(super) fn respond(request: &Request<'_>, directory: Directory, now: Moment) -> Response {
    let quality = |media_type| accepted_by_name(request.fields, media_type);
    let json = quality("application/json");
    let is_json = json > 0 && json >= quality("text/html");
    let now = i64::try_from(now.wall().as_secs()).unwrap_or(i64::MAX);
    let job = BodyJob(Box::new(move || {
        let Directory { root, path, descriptor, is_hidden_shown } = directory;
        let listing = root.read_dir(&path, &descriptor, is_hidden_shown)?;
        if is_json { render_json(&path, &listing) } else { Ok(site::render_listing(&path, &listing, now).into_bytes()) }
    }));
    let response = Response::new(Status::OK, ResponseBody::Generated(job)).with_field("Vary", "Accept");
    if is_json {
        return response.with_field("Content-Type", "application/json");
    }
    response
        .with_field("Content-Type", "text/html; charset=utf-8")
        .with_field("Content-Security-Policy", LISTING_POLICY.as_str())
}

/// Listing as JSON.
#[derive(Serialize)]
struct ListingDocument {
    path: String,
    /// Number of entries in the directory; those beyond the limit are not listed.
    total: usize,
    entries: Vec<ListedEntry>,
}

#[derive(Serialize)]
struct ListedEntry {
    /// Name; bytes that are not UTF-8 are replaced.
    name: String,
    /// Relative URL, which has all bytes of the name.
    url: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Length of a file.
    bytes: Option<u64>,
    modified: Option<String>,
}

fn render_json(path: &SitePath, listing: &Listing) -> io::Result<Vec<u8>> {
    let entries = listing.entries.iter().map(|entry| {
        let DirEntry { kind, name, length, modified } = entry;
        ListedEntry {
            name: String::from_utf8_lossy(name).into_owned(),
            url: site::entry_url(entry),
            kind: if *kind == EntryKind::Directory { "directory" } else { "file" },
            bytes: (*kind == EntryKind::File).then_some(*length),
            modified: jiff::Timestamp::from_second(*modified).ok().map(|time| time.to_string()),
        }
    });
    let document = ListingDocument { path: path.display(), total: listing.total, entries: entries.collect() };
    let mut json = serde_json::to_vec(&document)?;
    json.push(b'\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::{DirEntry, EntryKind, Listing, SitePath, render_json};

    #[test]
    fn an_entry_has_its_name_and_a_url_with_all_its_bytes() {
        let entry = |kind, name: &[u8]| DirEntry { kind, name: name.to_vec(), length: 7, modified: 1 };
        let entries = vec![entry(EntryKind::Directory, b"sub"), entry(EntryKind::File, b"a\"\xff:b")];
        let path = SitePath::parse("/x%20y/").expect("a valid path");
        let json = render_json(&path, &Listing { entries, total: 3 }).expect("rendered");
        let expected = concat!(
            r#"{"path":"/x y/","total":3,"entries":[{"name":"sub","url":"./sub/","type":"directory","bytes":null,"#,
            r#""modified":"1970-01-01T00:00:01Z"},{"name":"a\"\u{fffd}:b","url":"./a%22%FF:b","type":"file","bytes":7,"#,
            r#""modified":"1970-01-01T00:00:01Z"}]}"#
        );
        let expected = expected.replace("\\u{fffd}", "\u{fffd}") + "\n";
        assert_eq!(String::from_utf8(json).expect("UTF-8"), expected);
    }
}
