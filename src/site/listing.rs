//! HTML page of a directory listing.
//!
//! Owns the page built from `assets/pages/listing.html`. File names are untrusted bytes, so they are escaped as a
//! URL segment in the link and as HTML in the text.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use indicatif::{BinaryBytes, HumanCount};

use super::path::{SitePath, escape_segment};
use super::root::{DirEntry, EntryKind, Listing};

const PAGE: &str = include_str!("../../assets/pages/listing.html");
/// Stylesheet that the pages share.
pub(crate) const STYLE: &str = include_str!("../../assets/pages/style.css");

/// Endings of archives, which the table of media types calls applications.
const ARCHIVES: [&str; 12] = ["7z", "bz2", "deb", "gz", "iso", "jar", "rar", "rpm", "tar", "xz", "zip", "zst"];

/// Script of the page, for the policy that allows it.
pub(crate) fn listing_script() -> &'static str {
    PAGE.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>")).map_or("", |(script, _)| script)
}

/// Renders the page of a directory at this time, in seconds since 1970.
pub(crate) fn render_listing(path: &SitePath, listing: &Listing, now: i64) -> String {
    let mut rows = String::new();
    if !path.is_root() {
        let up = "<tr><td><a href=\"../\"><svg class=i aria-hidden=true><use href=\"#u\" /></svg>..</a><td><td class=wide>\n";
        rows.push_str(up);
    }
    listing.entries.iter().for_each(|entry| write_row(&mut rows, entry, now));
    let fills = [
        ("{{title}}", escape_html(&path.display()).to_string()),
        ("{{style}}", STYLE.to_owned()),
        ("{{path}}", breadcrumb(path)),
        ("{{rows}}", rows),
        ("{{count}}", count_text(listing)),
    ];
    // In the order of the page: a name that looks like a placeholder is not filled in.
    let (mut page, mut rest) = (String::new(), PAGE);
    for (placeholder, value) in fills {
        let (before, after) = rest.split_once(placeholder).unwrap_or((rest, ""));
        page.push_str(before);
        page.push_str(&value);
        rest = after;
    }
    page + rest
}

/// Links to the directories above, and the name of this one.
fn breadcrumb(path: &SitePath) -> String {
    let names = path.names();
    let mut links = String::new();
    for (index, name) in std::iter::once(None).chain(names.iter().map(Some)).enumerate() {
        let shown =
            name.map_or_else(|| "/".to_owned(), |name| escape_html(&String::from_utf8_lossy(name)).to_string() + "/");
        let up = names.len() - index;
        // Writing to a String cannot fail.
        let _ = match up {
            0 => write!(links, "<span aria-current=page>{shown}</span>"),
            _ => write!(links, "<a href=\"{}\">{shown}</a>", "../".repeat(up)),
        };
    }
    links
}

fn count_text(listing: &Listing) -> String {
    let (shown, total) = (listing.entries.len(), listing.total);
    match total {
        0 => "empty directory".to_owned(),
        1 => "1 entry".to_owned(),
        _ if shown < total => format!("the first {} of {} entries", HumanCount(shown as u64), HumanCount(total as u64)),
        _ => format!("{} entries", HumanCount(total as u64)),
    }
}

fn write_row(rows: &mut String, entry: &DirEntry, now: i64) {
    let is_directory = entry.kind == EntryKind::Directory;
    let (slash, order) = if is_directory { ("/", 0) } else { ("", 1) };
    let name = String::from_utf8_lossy(&entry.name);
    let size = if is_directory { String::new() } else { BinaryBytes(entry.length).to_string() };
    let exact = if is_directory { 0 } else { entry.length };
    // Writing to a String cannot fail.
    let _ = writeln!(
        rows,
        "<tr data-k={order}><td data-v=\"{shown}\"><a href=\"{}\"><svg class=i aria-hidden=true><use \
         href=\"#{}\" /></svg>{shown}{slash}</a><td class=\"n dim\" data-v={exact} title=\"{exact} bytes\">{size}<td \
         class=\"dim wide\" data-v={}>{}",
        entry_url(entry),
        icon(entry),
        entry.modified,
        age(entry.modified, now),
        shown = escape_html(&name),
    );
}

/// Relative URL of an entry. `./` prevents a name such as `a:b` from being parsed as a scheme.
pub(crate) fn entry_url(entry: &DirEntry) -> String {
    let slash = if entry.kind == EntryKind::Directory { "/" } else { "" };
    format!("./{}{slash}", escape_segment(&entry.name))
}

/// Symbol for the type of an entry.
fn icon(entry: &DirEntry) -> char {
    if entry.kind == EntryKind::Directory {
        return 'd';
    }
    let path = Path::new(OsStr::from_bytes(&entry.name));
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    match mime_guess::from_path(path).first_raw().and_then(|kind| kind.split('/').next()) {
        _ if ARCHIVES.iter().any(|known| known.eq_ignore_ascii_case(extension)) => 'a',
        Some("image") => 'i',
        Some("text") => 't',
        Some("audio" | "video") => 'm',
        _ => 'f',
    }
}

/// Age of a file with the exact time, or its date if it is old.
fn age(modified: i64, now: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_second(modified) else { return String::new() };
    let seconds = now.saturating_sub(modified);
    let text = match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        86_400..172_800 => "yesterday".to_owned(),
        172_800..2_592_000 => format!("{} days ago", seconds / 86_400),
        _ => time.strftime("%Y-%m-%d").to_string(),
    };
    format!("<time datetime=\"{time}\" title=\"{} UTC\">{text}</time>", time.strftime("%Y-%m-%d %H:%M:%S"))
}

/// Escapes text as HTML: characters that start a tag or an entity or end an attribute, and control characters,
/// which a terminal would interpret when it shows the source.
pub(crate) fn escape_html(text: &str) -> impl fmt::Display + '_ {
    struct Html<'t>(&'t str);
    impl fmt::Display for Html<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for character in self.0.chars() {
                match character {
                    '<' => f.write_str("&lt;")?,
                    '>' => f.write_str("&gt;")?,
                    '&' => f.write_str("&amp;")?,
                    '"' => f.write_str("&quot;")?,
                    '\'' => f.write_str("&#39;")?,
                    control if control.is_control() => f.write_char('\u{fffd}')?,
                    // Bidirectional overrides can make one name look like another.
                    '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                    other => f.write_char(other)?,
                }
            }
            Ok(())
        }
    }
    Html(text)
}

#[cfg(test)]
mod tests {
    use super::{DirEntry, EntryKind, Listing, SitePath, render_listing};

    fn page(target: &str, names: &[&[u8]]) -> String {
        let entries: Vec<_> = names
            .iter()
            .map(|name| DirEntry { kind: EntryKind::File, name: name.to_vec(), length: 7, modified: 0 })
            .collect();
        let total = entries.len();
        render_listing(&SitePath::parse(target).expect("a valid path"), &Listing { entries, total }, 0)
    }

    #[test]
    fn a_hostile_name_is_shown_as_text_in_one_link() {
        let page = page("/", &[b"<script>\"'&\n\x1b[31m\xff"]);
        assert!(page.contains("href=\"./%3Cscript%3E%22%27%26%0A%1B%5B31m%FF\""), "{page}");
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;"), "{page}");
        assert_eq!(page.matches("<script").count(), 1, "our own");
        assert!(!page.contains('\x1b'));
    }

    #[test]
    fn a_colon_starts_no_scheme_and_a_question_mark_starts_no_query() {
        let page = page("/", &[b"javascript:x", b"a?b#c%"]);
        assert!(page.contains("href=\"./javascript:x\"") && page.contains("href=\"./a%3Fb%23c%25\""), "{page}");
    }

    #[test]
    fn a_name_that_looks_like_a_placeholder_is_a_name() {
        let page = page("/%7B%7Brows%7D%7D/", &[b"{{count}}", b"{{style}}"]);
        assert!(page.contains("<title>/{{rows}}/</title>") && page.contains(">{{count}}</a>"), "{page}");
        assert_eq!(page.matches("2 entries").count(), 1);
    }

    #[test]
    fn times_are_relative_and_exact() {
        let day = 86_400;
        for (age_in_seconds, text) in [
            (5, "just now"),
            (120, "2 min ago"),
            (7_200, "2 h ago"),
            (day, "yesterday"),
            (3 * day, "3 days ago"),
            (40 * day, "1970-01-01"),
        ] {
            let shown = super::age(0, age_in_seconds);
            assert!(shown.contains(&format!(">{text}</time>")), "{shown}");
            assert!(shown.contains("datetime=\"1970-01-01T00:00:00Z\" title=\"1970-01-01 00:00:00 UTC\""), "{shown}");
        }
    }

    #[test]
    fn every_listing_but_the_root_links_to_its_parent() {
        assert!(!page("/", &[]).contains("../"));
        assert!(page("/%3Cb%3E/", &[]).contains("../"));
        assert!(page("/%3Cb%3E/", &[]).contains("<title>/&lt;b&gt;/"));
    }
}
