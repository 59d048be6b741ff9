//! `--http`: what was captured, to be looked at in a browser.
//!
//! Owns what is at which path. Everything in a mail is a stranger's: text is escaped, HTML is [made
//! harmless](super::html) and shown in a frame that may run nothing and load nothing, attachments are only
//! handed out, and whoever names another host than this one gets nothing, so that no page from elsewhere can
//! read mails here.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use mail_parser::{Message, MessagePart, MimeHeaders as _, PartType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::events::MessageEvent;
use super::html::sanitize;
use super::mime::{content_type, inspect};
use super::recent::{RecentMessage, RecentMessages};
use crate::commands::web::{Handler, Response, ResponseBody};
use crate::http::{Request, Status};
use crate::site::escape_html;
use crate::time::Moment;

const LIST_TEMPLATE: &str = include_str!("../../../assets/pages/mails.html");
const MESSAGE_TEMPLATE: &str = include_str!("../../../assets/pages/mail.html");
/// Our own pages run nothing, and show nothing from elsewhere.
const PAGE_CSP: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A stranger's HTML has no origin, no script, no form and no network; images are in it or nowhere.
const UNTRUSTED_CSP: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                        form-action 'none'; frame-ancestors 'self'";
/// In place of HTML that cannot be made harmless.
const HTML_NOT_SHOWN: &str = "<p>too long, or too odd, to be shown here; it is in the whole message</p>";
/// Letters of a subject in the list.
const MAX_SUBJECT_CHARS: usize = 160;
/// Recipients that the list names.
const MAX_LISTED_RECIPIENTS: usize = 3;
/// Octets of text that a page shows.
const MAX_TEXT_BYTES: usize = 512 << 10;
/// What a file name may hold unescaped in `filename*` (RFC 8187 §3.2.1).
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// What is at which path.
#[derive(Clone)]
pub(super) struct MessagePages {
    /// The mails.
    pub recent: Arc<RecentMessages>,
    /// Names under which this machine may be asked, beside its addresses and localhost.
    pub host_names: Arc<[String]>,
}

impl Handler for MessagePages {
    fn respond(&self, request: &Request<'_>, _: Moment) -> Response {
        if let Some(decision) = Response::for_other_method(request, "mails") {
            return decision;
        }
        if !request.host.is_none_or(|host| self.is_local_host(host)) {
            let why = "This server is not called that. Ask for it by its address, or as localhost.";
            return Response::error(Status::FORBIDDEN, why);
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let decision = match path.strip_prefix("/mail/") {
            None if path == "/" => html_page(list_page(&self.recent)),
            None => not_found(),
            Some(rest) => self.message_response(rest).unwrap_or_else(not_found),
        };
        decision
            .with_field("Cache-Control", "no-store")
            .with_field("X-Content-Type-Options", "nosniff")
            .with_field("Referrer-Policy", "no-referrer")
            .with_field("Cross-Origin-Resource-Policy", "same-origin")
    }
}

impl MessagePages {
    /// Whether a Host field names this machine. A name that somebody else has made to lead here (DNS
    /// rebinding) does not.
    fn is_local_host(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<std::net::IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.host_names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn message_response(&self, path: &str) -> Option<Response> {
        let (number, what) = match path.split_once('/') {
            Some((number, what)) => (number, what),
            None => path.strip_suffix(".eml").map_or((path, ""), |number| (number, "eml")),
        };
        let is_plain = number.bytes().all(|digit| digit.is_ascii_digit());
        let kept = self.recent.find(number.parse().ok().filter(|_| is_plain)?)?;
        match what {
            "" => Some(html_page(message_page(&kept))),
            "eml" => Some(download(&format!("{}.eml", kept.event.number), kept.message.clone())),
            "html" => {
                let html = inspect(&kept.message, |read, _| {
                    let html = read.body_html(0)?;
                    Some(sanitize(read, &html).unwrap_or_else(|| HTML_NOT_SHOWN.to_owned()))
                })??;
                Some(Response::html(Status::OK, html).with_field("Content-Security-Policy", UNTRUSTED_CSP))
            }
            part => {
                let place: usize = part.strip_prefix("part/")?.parse().ok()?;
                inspect(&kept.message, |read, _| {
                    let part = read.attachment(u32::try_from(place).ok()?)?;
                    Some(download(part.attachment_name().unwrap_or("attachment"), part.contents().to_vec()))
                })?
            }
        }
    }
}

fn not_found() -> Response {
    Response::error(Status::NOT_FOUND, "There is no such mail, or it was forgotten.")
}

fn html_page(page: String) -> Response {
    Response::html(Status::OK, page).with_field("Content-Security-Policy", PAGE_CSP)
}

/// Octets to be saved and never to be shown, whatever they are.
fn download(name: &str, bytes: Vec<u8>) -> Response {
    // A name is a name: no path leads out of the place where it is saved.
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
    let (mails, forgotten) = recent.list();
    let mut rows = String::new();
    for kept in &mails {
        let mail = &kept.event;
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
            escape_html(&subject(kept).chars().take(MAX_SUBJECT_CHARS).collect::<String>()),
            escape_html(or_placeholder(&mail.from, "<>")),
            escape_html(&to.join(", ")),
            mail.bytes
        );
    }
    let about = match (mails.len(), forgotten) {
        (0, _) => "None so far; this page looks again every five seconds.".to_owned(),
        (count, 0) => format!("{count}, the newest first; this page looks again every five seconds."),
        (count, forgotten) => format!("The last {count}; {forgotten} older ones are no longer kept here."),
    };
    fill_template(LIST_TEMPLATE, &[("count", &mails.len().to_string()), ("about", &about), ("rows", &rows)])
}

fn subject(message: &RecentMessage) -> &str {
    message.event.subject.as_deref().map_or("(no subject)", |subject| or_placeholder(subject, "(no subject)"))
}

fn or_placeholder<'t>(text: &'t str, placeholder: &'t str) -> &'t str {
    if text.trim().is_empty() { placeholder } else { text }
}

fn message_page(message: &RecentMessage) -> String {
    let mail = &message.event;
    let seen = inspect(&message.message, |read, is_whole| {
        (content_html(read, mail.number), attachment_items(read, mail.number), is_whole)
    });
    let (content, parts) = match seen {
        Some((content, parts, true)) if parts.is_empty() => (content, "<p>none</p>".to_owned()),
        Some((content, parts, true)) => (content, format!("<ul>{parts}</ul>")),
        cut => {
            let why = "<p>not told: this message has too many parts to be taken apart</p>";
            (cut.map(|(content, ..)| content).unwrap_or_default(), why.to_owned())
        }
    };
    let end = memchr::memmem::find(&message.message, b"\r\n\r\n").unwrap_or(message.message.len());
    let headers = String::from_utf8_lossy(message.message.get(..end).unwrap_or_default());
    fill_template(
        MESSAGE_TEMPLATE,
        &[
            ("number", &mail.number.to_string()),
            ("header_count", &headers.lines().count().to_string()),
            ("envelope", &envelope_rows(mail)),
            ("parts", &parts),
            ("content", &content),
            ("subject", &escape_html(subject(message)).to_string()),
            ("headers", &text_html(&headers)),
        ],
    )
}

/// How it came: the rows of a list.
fn envelope_rows(event: &MessageEvent) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(rows, "<dt>{name}<dd>{}", escape_html(text));
    };
    row("from", or_placeholder(&event.from, "<>"));
    for recipient in &event.recipients {
        row("to", &recipient.address);
    }
    row("came", &event.time.zoned().strftime("%Y-%m-%d %H:%M:%S %:z").to_string());
    row("by", &format!("{} ({})", event.peer, event.helo));
    let line = match (event.tls, &event.auth) {
        (Some(tls), Some(user)) => format!("TLS {tls}, as {user}"),
        (Some(tls), None) => format!("TLS {tls}"),
        (None, Some(user)) => format!("in clear, as {user}"),
        (None, None) => "in clear".to_owned(),
    };
    row("line", &line);
    row("size", &format!("{} bytes", event.bytes));
    if let Some(file) = &event.file {
        row("file", file);
    }
    rows
}

/// Its text, and the frame of its HTML.
fn content_html(read: &Message<'_>, number: u64) -> String {
    let mut content = String::new();
    let has_html = read.html_bodies().any(|part| matches!(part.body, PartType::Html(_)));
    let has_text = read.text_bodies().any(|part| matches!(part.body, PartType::Text(_)));
    let text = if has_text || !has_html { read.body_text(0).or_else(|| unclosed_text(read)) } else { None };
    if let Some(text) = text {
        let _ = write!(content, "<h2>Text</h2><pre>{}</pre>", text_html(&text));
    }
    if has_html {
        let _ = write!(
            content,
            "<h2>HTML</h2><iframe sandbox referrerpolicy=\"no-referrer\" title=\"the mail's HTML\" \
             src=\"/mail/{number}/html\"></iframe>"
        );
    }
    content
}

/// Its attachments: the items of a list.
fn attachment_items(read: &Message<'_>, number: u64) -> String {
    let mut items = String::new();
    for (place, part) in (0..).zip(read.attachments()) {
        let named = part.content_id().map(|id| format!("cid:{id}"));
        let name = part.attachment_name().or(named.as_deref()).unwrap_or("without a name");
        let _ = write!(
            items,
            "<li><a href=\"/mail/{number}/part/{place}\" download>{}</a>, {}, {} bytes",
            escape_html(name),
            escape_html(&content_type(part)),
            part.contents().len()
        );
    }
    items
}

/// The text of a message whose parts are not closed, which its parser takes for an attachment.
fn unclosed_text<'m>(read: &'m Message<'_>) -> Option<Cow<'m, str>> {
    let is_text = |part: &&MessagePart<'_>| {
        matches!(part.body, PartType::Text(_))
            && part.attachment_name().is_none()
            && part.content_disposition().is_none()
    };
    read.parts.iter().filter(is_text).find_map(|part| part.text_contents()).map(Cow::Borrowed)
}

/// Fills the places of a template in one pass.
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

/// Text with its lines, as HTML; what is too long for a page is cut, and says so.
fn text_html(text: &str) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let shown: Vec<String> =
        text.get(..end).unwrap_or_default().lines().map(|line| escape_html(line).to_string()).collect();
    let cut = if end < text.len() { "\n… the rest is in the whole message" } else { "" };
    shown.join("\n") + cut
}

#[cfg(test)]
mod tests {
    use super::{MessagePages, RecentMessage, RecentMessages, download, fill_template, text_html};
    use crate::commands::mail_serve::events::tests::message_event;
    use std::sync::Arc;

    fn field(decision: &crate::commands::web::Response, name: &str) -> String {
        decision.fields.iter().find(|(known, _)| *known == name).expect(name).1.clone()
    }

    #[test]
    fn only_this_machine_is_asked() {
        let board = MessagePages { recent: Arc::default(), host_names: Arc::from(["lab.test".to_owned()]) };
        for host in ["127.0.0.1:8025", "[::1]:8025", "[::1]", "localhost", "LOCALHOST:1", "lab.test", "10.1.2.3"] {
            assert!(board.is_local_host(host), "{host}");
        }
        for host in ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test:80", "", ":80"] {
            assert!(!board.is_local_host(host), "{host}");
        }
    }

    #[test]
    fn a_file_name_is_a_name() {
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
    fn places_in_a_mail_are_not_filled() {
        assert_eq!(fill_template("{{a}}-{{b}}-{{c}}", &[("a", "{{b}}"), ("b", "x")]), "{{b}}-x-");
        assert_eq!(text_html("<\u{1b}>\n&"), "&lt;\u{fffd}&gt;\n&amp;");
        assert!(text_html(&"\u{fc}".repeat(1 << 20)).ends_with("the whole message"));
    }

    #[test]
    fn mails_are_found_by_their_number_and_nothing_else() {
        let archive = Arc::new(RecentMessages::default());
        let message = b"Content-Type: text/html\r\n\r\n<script>x</script>".to_vec();
        archive.push(RecentMessage { event: Arc::new(message_event(7)), message });
        let board = MessagePages { recent: archive, host_names: Arc::from([]) };
        for path in ["7", "7/", "7.eml", "7/html"] {
            assert!(board.message_response(path).is_some(), "{path}");
        }
        for path in ["", "8", "+7", "7.txt", "7/part/0", "7/part/x", "7/../7", "-1", "99999999999999999999"] {
            assert!(board.message_response(path).is_none(), "{path}");
        }
        let html = board.message_response("7/html").expect("there");
        assert!(field(&html, "Content-Security-Policy").starts_with("sandbox; default-src 'none'"));
        let raw = board.message_response("7.eml").expect("there");
        assert_eq!(field(&raw, "Content-Type"), "application/octet-stream");
    }
}
