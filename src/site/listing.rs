//! HTML page of a directory listing.
//!
//! Owns the page built from `assets/pages/listing.html`. File names are untrusted bytes, so they are escaped as a
//! URL segment in the link and as HTML in the text.

use std::fmt::{self, Write as _};

use super::path::{SitePath, escape_segment};
use super::root::{DirEntry, EntryKind, Listing};

const PAGE: &str = include_str!("../../assets/pages/listing.html");

/// Renders the page of a directory.
pub(crate) fn render_listing(path: &SitePath, listing: &Listing) -> String {
    let mut rows = String::new();
    if !path.is_root() {
        rows.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    for entry in &listing.entries {
        write_row(&mut rows, entry);
    }
    let (shown, total) = (listing.entries.len(), listing.total);
    if shown < total {
        // Writing to a String cannot fail.
        let _ = writeln!(rows, "<tr><td colspan=3>the first {shown} of {total} entries");
    }
    let title = String::from_utf8_lossy(&path.relative()).into_owned();
    let title = if path.is_root() { String::from("/") } else { format!("/{title}/") };
    // A name may look like a placeholder.
    let title = escape_html(&title).to_string();
    let (before, after) = PAGE.split_once("{{rows}}").unwrap_or((PAGE, ""));
    before.replace("{{title}}", &title) + &rows + &after.replace("{{title}}", &title)
}

fn write_row(rows: &mut String, entry: &DirEntry) {
    let slash = if entry.kind == EntryKind::Directory { "/" } else { "" };
    let name = String::from_utf8_lossy(&entry.name);
    let date = jiff::Timestamp::from_second(entry.modified).map(|moment| moment.strftime("%Y-%m-%d %H:%M").to_string());
    let size = if entry.kind == EntryKind::File { entry.length.to_string() } else { String::new() };
    // `./` prevents a name such as `a:b` from being parsed as a scheme. Writing to a String cannot fail.
    let _ = writeln!(
        rows,
        "<tr><td><a href=\"./{}{slash}\">{}{slash}</a><td class=n>{size}<td>{}",
        escape_segment(&entry.name),
        escape_html(&name),
        date.unwrap_or_default(),
    );
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
        render_listing(&SitePath::parse(target).expect("a valid path"), &Listing { entries, total })
    }

    #[test]
    fn a_hostile_name_is_shown_as_text_in_one_link() {
        let page = page("/", &[b"<script>\"'&\n\x1b[31m\xff"]);
        assert!(page.contains("href=\"./%3Cscript%3E%22%27%26%0A%1B%5B31m%FF\""), "{page}");
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;"), "{page}");
        assert!(!page.contains("<script") && !page.contains('\x1b'));
    }

    #[test]
    fn a_colon_starts_no_scheme_and_a_question_mark_starts_no_query() {
        let page = page("/", &[b"javascript:x", b"a?b#c%"]);
        assert!(page.contains("href=\"./javascript:x\"") && page.contains("href=\"./a%3Fb%23c%25\""), "{page}");
    }

    #[test]
    fn every_listing_but_the_root_links_to_its_parent() {
        assert!(!page("/", &[]).contains("../"));
        assert!(page("/%3Cb%3E/", &[]).contains("../"));
        assert!(page("/%3Cb%3E/", &[]).contains("<title>/&lt;b&gt;/"));
    }
}
