//! Web pages of `--http`: captured mail in a browser.
//!
//! Owns the paths and their responses. The content of a mail is untrusted: text is escaped, HTML is
//! [sanitized](super::html_sanitizer) and shown in a frame that may run nothing and load nothing, and attachments are
//! offered for download only. A request for another host name is rejected, so that no page of another site can read
//! mails.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use mail_parser::{Message, MessagePart, MimeHeaders as _, PartType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::events::MessageEvent;
use super::html_sanitizer::sanitize;
use super::mime::{content_type, inspect};
use super::recent_messages::{RecentMessage, RecentMessages};
use crate::commands::report::plural;
use crate::commands::web::{DEFAULT_TIMEOUTS, error_page, misdirected_response, other_method_response};
use crate::http::{Handler, HttpTimeouts, LocalHosts, Request, Response, ResponseBody, Status};
use crate::site::escape_html;
use crate::time::Moment;

const LIST_TEMPLATE: &str = include_str!("../../../assets/pages/mails.html");
const MESSAGE_TEMPLATE: &str = include_str!("../../../assets/pages/mail.html");
/// Policy of our own pages: no scripts, nothing from other sites.
const PAGE_CSP: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Policy of HTML from a mail: no origin, no scripts, no forms, no network; only inlined images.
const UNTRUSTED_CSP: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                        form-action 'none'; frame-ancestors 'self'";
const HTML_NOT_SHOWN: &str = "<p>This HTML is too long or malformed to be shown safely. See the complete message.</p>";
/// Limit of characters of a subject in the list.
const MAX_SUBJECT_CHARS: usize = 160;
const MAX_LISTED_RECIPIENTS: usize = 3;
/// Limit of text on a page.
const MAX_TEXT_BYTES: usize = 512 << 10;
/// Characters not escaped in `filename*` (RFC 8187 §3.2.1).
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

#[derive(Clone)]
pub(super) struct MessagePages {
    pub recent: Arc<RecentMessages>,
    pub hosts: LocalHosts,
}

impl Handler for MessagePages {
    fn timeouts(&self) -> HttpTimeouts {
        DEFAULT_TIMEOUTS
    }

    fn error_response(&self, status: Status, reason: &str) -> Response {
        error_page(status, reason)
    }

    fn respond(&self, request: &Request<'_>, _: Option<SocketAddr>, _: Moment) -> Response {
        if let Some(response) = other_method_response(request) {
            return response;
        }
        if !request.host.is_none_or(|host| self.hosts.accepts(host)) {
            return misdirected_response();
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let response = match path.strip_prefix("/mail/") {
            None if path == "/" => html_page(list_page(&self.recent)),
            None => not_found(),
            Some(rest) => self.message_response(rest).unwrap_or_else(not_found),
        };
        response
            .with_field("Cache-Control", "no-store")
            .with_field("X-Content-Type-Options", "nosniff")
            .with_field("Referrer-Policy", "no-referrer")
            .with_field("Cross-Origin-Resource-Policy", "same-origin")
    }
}

impl MessagePages {
    fn message_response(&self, path: &str) -> Option<Response> {
        let (number, item) = match path.split_once('/') {
            Some((number, item)) => (number, item),
            None => path.strip_suffix(".eml").map_or((path, ""), |number| (number, "eml")),
        };
        let is_plain = number.bytes().all(|digit| digit.is_ascii_digit());
        let message = self.recent.find(number.parse().ok().filter(|_| is_plain)?)?;
        match item {
            "" => Some(html_page(message_page(&message))),
            "eml" => Some(download(&format!("{}.eml", message.event.number), message.message.clone())),
            "html" => {
                let html = inspect(&message.message, |parsed, _| {
                    let html = parsed.body_html(0)?;
                    Some(sanitize(parsed, &html).unwrap_or_else(|| HTML_NOT_SHOWN.to_owned()))
                })??;
                Some(Response::html(Status::OK, html).with_field("Content-Security-Policy", UNTRUSTED_CSP))
            }
            part => {
                let index: usize = part.strip_prefix("part/")?.parse().ok()?;
                inspect(&message.message, |parsed, _| {
                    let part = parsed.attachment(u32::try_from(index).ok()?)?;
                    Some(download(part.attachment_name().unwrap_or("attachment"), part.contents().to_vec()))
                })?
            }
        }
    }
}

fn not_found() -> Response {
    error_page(Status::NOT_FOUND, "Message not found. It may have been discarded.")
}

fn html_page(page: String) -> Response {
    Response::html(Status::OK, page).with_field("Content-Security-Policy", PAGE_CSP)
}

/// Builds a response that a browser saves and never shows, whatever its content.
fn download(name: &str, bytes: Vec<u8>) -> Response {
    // Only the last component: a path must not lead out of the download directory.
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let ascii: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect();
    let ascii = if ascii.trim_matches('.').is_empty() { "attachment".to_owned() } else { ascii };
    let disposition =
        format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", utf8_percent_encode(name, ATTR_CHAR));
    Response::new(Status::OK, ResponseBody::Bytes(bytes))
        .with_field("Content-Type", "application/octet-stream")
        .with_field("Content-Disposition", disposition)
        .with_field("Content-Security-Policy", UNTRUSTED_CSP)
}

fn list_page(recent: &RecentMessages) -> String {
    let (mails, dropped) = recent.list();
    let mut rows = String::new();
    for message in &mails {
        let mail = &message.event;
        let mut to: Vec<String> =
            mail.recipients.iter().take(MAX_LISTED_RECIPIENTS).map(|to| to.address.clone()).collect();
        if let Some(more) = mail.recipients.len().checked_sub(MAX_LISTED_RECIPIENTS).filter(|more| *more > 0) {
            to.push(format!("and {more} more"));
        }
        let _ = writeln!(
            rows,
            "<tr><td class=t>{}<td class=s><a href=\"/mail/{}\">{}</a><td>{}<td>{}<td class=n>{}",
            mail.time.zoned().strftime("%H:%M:%S"),
            mail.number,
            escape_html(&subject(message).chars().take(MAX_SUBJECT_CHARS).collect::<String>()),
            escape_html(or_placeholder(&mail.from, "<>")),
            escape_html(&to.join(", ")),
            mail.bytes
        );
    }
    let count = format!("{} {}", mails.len(), plural(mails.len() as u64, "message", "messages"));
    let about = match (mails.len(), dropped) {
        (0, _) => "No messages yet; this page refreshes every five seconds.".to_owned(),
        (_, 0) => format!("{count}, newest first; this page refreshes every five seconds."),
        _ => format!(
            "The last {count}, newest first; {dropped} older {} dropped.",
            plural(dropped, "message", "messages")
        ),
    };
    fill_template(LIST_TEMPLATE, &[("count", &count), ("about", &about), ("rows", &rows)])
}

fn size_text(bytes: usize) -> String {
    format!("{bytes} {}", plural(bytes as u64, "byte", "bytes"))
}

fn subject(message: &RecentMessage) -> &str {
    message.event.subject.as_deref().map_or("(no subject)", |subject| or_placeholder(subject, "(no subject)"))
}

fn or_placeholder<'t>(text: &'t str, placeholder: &'t str) -> &'t str {
    if text.trim().is_empty() { placeholder } else { text }
}

fn message_page(message: &RecentMessage) -> String {
    let mail = &message.event;
    let parsed = inspect(&message.message, |parsed, is_whole| {
        (content_html(parsed, mail.number), attachment_items(parsed, mail.number), is_whole)
    });
    let (content, parts) = match parsed {
        Some((content, parts, true)) if parts.is_empty() => (content, "<p>none</p>".to_owned()),
        Some((content, parts, true)) => (content, format!("<ul>{parts}</ul>")),
        incomplete => {
            let why = "<p>not listed: this message has too many parts</p>";
            (incomplete.map(|(content, ..)| content).unwrap_or_default(), why.to_owned())
        }
    };
    let end = memchr::memmem::find(&message.message, b"\r\n\r\n").unwrap_or(message.message.len());
    let headers = String::from_utf8_lossy(message.message.get(..end).unwrap_or_default());
    let lines = headers.lines().count();
    fill_template(
        MESSAGE_TEMPLATE,
        &[
            ("number", &mail.number.to_string()),
            ("header_count", &format!("{lines} {}", plural(lines as u64, "line", "lines"))),
            ("envelope", &envelope_rows(mail)),
            ("parts", &parts),
            ("content", &content),
            ("subject", &escape_html(subject(message)).to_string()),
            ("headers", &text_html(&headers)),
        ],
    )
}

/// Returns the envelope and the connection as items of a description list.
fn envelope_rows(event: &MessageEvent) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(rows, "<dt>{name}<dd>{}", escape_html(text));
    };
    row("from", or_placeholder(&event.from, "<>"));
    for recipient in &event.recipients {
        row("to", &recipient.address);
    }
    row("received", &event.time.zoned().strftime("%Y-%m-%d %H:%M:%S %:z").to_string());
    row("client", &format!("{} ({})", event.peer, event.helo));
    let security = match (event.tls, &event.auth) {
        (Some(tls), Some(user)) => format!("TLS {tls}, user {user}"),
        (Some(tls), None) => format!("TLS {tls}"),
        (None, Some(user)) => format!("not encrypted, user {user}"),
        (None, None) => "not encrypted".to_owned(),
    };
    row("connection", &security);
    row("size", &size_text(event.bytes));
    if let Some(file) = &event.file {
        row("file", file);
    }
    rows
}

/// Returns the text of a message, and the frame of its HTML.
fn content_html(parsed: &Message<'_>, number: u64) -> String {
    let mut content = String::new();
    let has_html = parsed.html_bodies().any(|part| matches!(part.body, PartType::Html(_)));
    let has_text = parsed.text_bodies().any(|part| matches!(part.body, PartType::Text(_)));
    let text = if has_text || !has_html { parsed.body_text(0).or_else(|| unclosed_text(parsed)) } else { None };
    if let Some(text) = text {
        let _ = write!(content, "<h2>Text</h2><pre>{}</pre>", text_html(&text));
    }
    if has_html {
        let _ = write!(
            content,
            "<h2>HTML</h2><iframe sandbox referrerpolicy=\"no-referrer\" title=\"HTML of the message\" \
             src=\"/mail/{number}/html\"></iframe>"
        );
    }
    content
}

/// Returns the attachments as list items.
fn attachment_items(parsed: &Message<'_>, number: u64) -> String {
    let mut items = String::new();
    for (index, part) in (0..).zip(parsed.attachments()) {
        let content_id = part.content_id().map(|id| format!("cid:{id}"));
        let name = part.attachment_name().or(content_id.as_deref()).unwrap_or("(no name)");
        let _ = write!(
            items,
            "<li><a href=\"/mail/{number}/part/{index}\" download>{}</a>, {}, {}",
            escape_html(name),
            escape_html(&content_type(part)),
            size_text(part.contents().len())
        );
    }
    items
}

/// Returns the text of a message without a closing boundary, which the parser treats as an attachment.
fn unclosed_text<'m>(parsed: &'m Message<'_>) -> Option<Cow<'m, str>> {
    let is_text = |part: &&MessagePart<'_>| {
        matches!(part.body, PartType::Text(_))
            && part.attachment_name().is_none()
            && part.content_disposition().is_none()
    };
    parsed.parts.iter().filter(is_text).find_map(|part| part.text_contents()).map(Cow::Borrowed)
}

/// Replaces the placeholders of a template in one pass, so that values are not expanded.
fn fill_template(template: &str, values: &[(&str, &str)]) -> String {
    let mut page = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((front, back)) = rest.split_once("{{") {
        page.push_str(front);
        let (name, after) = back.split_once("}}").unwrap_or((back, ""));
        page.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        rest = after;
    }
    page.push_str(rest);
    page
}

/// Escapes text line by line and truncates what is too long for a page.
fn text_html(text: &str) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let lines: Vec<String> =
        text.get(..end).unwrap_or_default().lines().map(|line| escape_html(line).to_string()).collect();
    let note = if end < text.len() { "\n… truncated; see the complete message" } else { "" };
    lines.join("\n") + note
}

#[cfg(test)]
mod tests {
    use super::{LocalHosts, MessagePages, RecentMessage, RecentMessages, download, fill_template, text_html};
    use crate::commands::mail_serve::events::tests::message_event;
    use std::sync::Arc;

    fn field(response: &crate::http::Response, name: &str) -> String {
        response.fields.iter().find(|(known, _)| *known == name).expect(name).1.clone()
    }

    #[test]
    fn only_local_host_names_are_accepted() {
        let pages = MessagePages { recent: Arc::default(), hosts: LocalHosts::new(["lab.test".to_owned()]) };
        for host in ["127.0.0.1:8025", "[::1]:8025", "[::1]", "localhost", "LOCALHOST:1", "lab.test", "10.1.2.3"] {
            assert!(pages.hosts.accepts(host), "{host}");
        }
        for host in ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test:80", "", ":80"] {
            assert!(!pages.hosts.accepts(host), "{host}");
        }
    }

    #[test]
    fn a_file_name_of_a_download_is_sanitized() {
        for (name, shown) in [
            ("../../etc/passwd", "attachment; filename=\"passwd\"; filename*=UTF-8''passwd"),
            ("a\"\r\nb", "attachment; filename=\"a___b\"; filename*=UTF-8''a%22%0D%0Ab"),
            ("..", "attachment; filename=\"attachment\"; filename*=UTF-8''.."),
            ("\u{fc}.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%BC.txt"),
        ] {
            assert_eq!(field(&download(name, Vec::new()), "Content-Disposition"), shown);
        }
    }

    #[test]
    fn placeholders_in_a_mail_are_not_filled() {
        assert_eq!(fill_template("{{a}}-{{b}}-{{c}}", &[("a", "{{b}}"), ("b", "x")]), "{{b}}-x-");
        assert_eq!(text_html("<\u{1b}>\n&"), "&lt;\u{fffd}&gt;\n&amp;");
        assert!(text_html(&"\u{fc}".repeat(1 << 20)).ends_with("the complete message"));
    }

    #[test]
    fn mails_are_found_by_their_number_only() {
        let recent = Arc::new(RecentMessages::default());
        let message = b"Content-Type: text/html\r\n\r\n<script>x</script>".to_vec();
        recent.push(RecentMessage { event: Arc::new(message_event(7)), message });
        let pages = MessagePages { recent, hosts: LocalHosts::default() };
        for path in ["7", "7/", "7.eml", "7/html"] {
            assert!(pages.message_response(path).is_some(), "{path}");
        }
        for path in ["", "8", "+7", "7.txt", "7/part/0", "7/part/x", "7/../7", "-1", "99999999999999999999"] {
            assert!(pages.message_response(path).is_none(), "{path}");
        }
        let html = pages.message_response("7/html").expect("there");
        assert!(field(&html, "Content-Security-Policy").starts_with("sandbox; default-src 'none'"));
        let raw = pages.message_response("7.eml").expect("there");
        assert_eq!(field(&raw, "Content-Type"), "application/octet-stream");
    }
}
