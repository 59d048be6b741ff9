//! What a directory looks like in a browser.
//!
//! Owns the page made from `assets/pages/listing.html`. Every name in it is some stranger's octets:
//! escaped as a URL segment in the link and as HTML in the text.

use std::fmt::{self, Write as _};

use super::path::{SitePath, escape_segment};
use super::root::{DirEntry, EntryKind};

const PAGE: &str = include_str!("../../assets/pages/listing.html");

/// The page for a directory with these names; `more` says that not all are shown.
pub(crate) fn render_listing(path: &SitePath, entries: &[DirEntry], is_truncated: bool) -> String {
    let mut rows = String::new();
    if !path.is_root() {
        rows.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    for named in entries {
        write_row(&mut rows, named);
    }
    if is_truncated {
        rows.push_str("<tr><td colspan=3>… and more, not shown\n");
    }
    let title = String::from_utf8_lossy(&path.relative()).into_owned();
    let title = if path.is_root() { String::from("/") } else { format!("/{title}/") };
    PAGE.replace("{{title}}", &escape_html(&title).to_string()).replace("{{rows}}", &rows)
}

fn write_row(rows: &mut String, entry: &DirEntry) {
    let slash = if entry.kind == EntryKind::Directory { "/" } else { "" };
    let name = String::from_utf8_lossy(&entry.name);
    let date = jiff::Timestamp::from_second(entry.modified).map(|moment| moment.strftime("%Y-%m-%d %H:%M").to_string());
    let size = if entry.kind == EntryKind::File { entry.length.to_string() } else { String::new() };
    // `./` keeps a name like `a:b` from being read as a scheme. Writing to a String cannot fail.
    let _ = writeln!(
        rows,
        "<tr><td><a href=\"./{}{slash}\">{}{slash}</a><td class=n>{size}<td>{}",
        escape_segment(&entry.name),
        escape_html(&name),
        date.unwrap_or_default(),
    );
}

/// Text as HTML: what could start a tag, an entity or end an attribute is escaped, and so are
/// control characters, which a terminal showing the source would obey.
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
                    // The bidirectional overrides let one name read as another.
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
    use super::{DirEntry, EntryKind, SitePath, render_listing};

    fn page(target: &str, names: &[&[u8]]) -> String {
        let names: Vec<_> = names
            .iter()
            .map(|name| DirEntry { kind: EntryKind::File, name: name.to_vec(), length: 7, modified: 0 })
            .collect();
        render_listing(&SitePath::parse(target).expect("a good path"), &names, false)
    }

    #[test]
    fn a_hostile_name_stays_text_in_one_link() {
        let page = page("/", &[b"<script>\"'&\n\x1b[31m\xff"]);
        assert!(page.contains("href=\"./%3Cscript%3E%22%27%26%0A%1B%5B31m%FF\""), "{page}");
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;"), "{page}");
        assert!(!page.contains("<script") && !page.contains('\x1b'));
    }

    #[test]
    fn a_colon_does_not_make_a_scheme_and_a_question_mark_no_query() {
        let page = page("/", &[b"javascript:x", b"a?b#c%"]);
        assert!(page.contains("href=\"./javascript:x\"") && page.contains("href=\"./a%3Fb%23c%25\""), "{page}");
    }

    #[test]
    fn only_the_root_has_no_way_up() {
        assert!(!page("/", &[]).contains("../"));
        assert!(page("/%3Cb%3E/", &[]).contains("../"));
        assert!(page("/%3Cb%3E/", &[]).contains("<title>/&lt;b&gt;/"));
    }
}
