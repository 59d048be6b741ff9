//! Conversion of 8-bit messages to ASCII for servers without 8BITMIME (RFC 6152 §3).
//!
//! Parts with bytes above 127 become base64, everything else stays unchanged; mail-parser finds the parts. Raw UTF-8
//! in a header or in an embedded message cannot be converted.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mail_parser::{Encoding, HeaderName, MessageParser, MessagePart, PartType};

/// Maximum length of a base64 line (RFC 2045 §6.8).
const BASE64_LINE_LENGTH: usize = 76;

/// Converts a message to ASCII; `None` if that is impossible.
pub(super) fn to_seven_bit(bytes: &[u8]) -> Option<Vec<u8>> {
    let message = MessageParser::default().parse(bytes)?;
    let mut edits: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    for (index, part) in message.parts.iter().enumerate() {
        collect_edits(part, index == 0, bytes, &mut edits)?;
    }
    edits.sort_by_key(|(range, _)| range.start);
    let mut ascii = Vec::with_capacity(bytes.len() * 3 / 2);
    let mut at = 0;
    for (range, text) in edits {
        ascii.extend_from_slice(bytes.get(at..range.start)?);
        ascii.extend_from_slice(&text);
        at = range.end;
    }
    ascii.extend_from_slice(bytes.get(at..)?);
    ascii.is_ascii().then_some(ascii)
}

fn collect_edits(
    part: &MessagePart<'_>,
    is_root: bool,
    bytes: &[u8],
    edits: &mut Vec<(Range<usize>, Vec<u8>)>,
) -> Option<()> {
    let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
    let body = at(part.offset_body)..at(part.offset_end);
    let content = bytes.get(body.clone())?;
    let encoding = part.headers.iter().find(|header| header.name == HeaderName::ContentTransferEncoding);
    let encoding = encoding.map(|header| at(header.offset_start)..at(header.offset_end));
    if matches!(part.body, PartType::Multipart(_)) {
        // A multipart of ASCII parts is 7bit (RFC 2045 §6.4).
        edits.extend(encoding.map(|range| (range, b" 7bit\r\n".to_vec())));
        return Some(());
    }
    if content.is_ascii() || part.encoding != Encoding::None || matches!(part.body, PartType::Message(_)) {
        return Some(());
    }
    let has = |name: HeaderName<'_>| part.headers.iter().any(|header| header.name == name);
    let mut head = String::new();
    if encoding.is_none() {
        head += "Content-Transfer-Encoding: base64\r\n";
    }
    if !has(HeaderName::ContentType) {
        let charset = if std::str::from_utf8(content).is_ok() { "utf-8" } else { "unknown-8bit" };
        head.extend(["Content-Type: text/plain; charset=", charset, "\r\n"]);
    }
    if is_root && !has(HeaderName::MimeVersion) {
        head += "MIME-Version: 1.0\r\n";
    }
    edits.extend(encoding.map(|range| (range, b" base64\r\n".to_vec())));
    let start = at(part.offset_header);
    edits.push((start..start, head.into_bytes()));
    edits.push((body, encode_base64(content)));
    Some(())
}

/// Encodes text with CRLF line ends in base64 lines (RFC 2045 §6.8).
fn encode_base64(content: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(content.len() + content.len() / 32);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                lines.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                lines.extend_from_slice(b"\r\n");
            }
            None => lines.extend_from_slice(line),
        }
    }
    let encoded = BASE64_STANDARD.encode(lines);
    let mut out = Vec::with_capacity(encoded.len() + encoded.len() / BASE64_LINE_LENGTH * 2 + 2);
    for line in encoded.as_bytes().chunks(BASE64_LINE_LENGTH) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::to_seven_bit;
    use mail_parser::{MessageParser, MimeHeaders as _};

    #[test]
    fn a_converted_text_decodes_to_the_same_text() {
        for head in
            ["", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nMIME-Version: 1.0\n"]
        {
            let text = format!("From: me@x.test\n{head}Subject: hi\n\nGrüße ♥\n.dot\n");
            let ascii = to_seven_bit(text.as_bytes()).expect("convertible");
            let read = MessageParser::default().parse(&ascii).expect("a message");
            assert!(ascii.is_ascii());
            assert_eq!(
                read.body_text(0).as_deref(),
                Some("Grüße ♥\r\n.dot\r\n"),
                "{}",
                String::from_utf8_lossy(&ascii)
            );
            assert_eq!((read.subject(), read.content_transfer_encoding()), (Some("hi"), Some("base64")));
            let once = |name: &str| String::from_utf8_lossy(&ascii).matches(name).count() == 1;
            assert!(once("MIME-Version") && once("Content-Type") && once("Content-Transfer-Encoding"));
        }
    }

    #[test]
    fn only_the_parts_that_need_it_are_changed() {
        let text = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\
                    Content-Transfer-Encoding: 8bit\r\n\r\n\
                    --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n\
                    --b\r\nContent-Type: text/html\r\n\r\n<p>plain\r\n--b--\r\n";
        let ascii = to_seven_bit(text.as_bytes()).expect("convertible");
        let shown = String::from_utf8(ascii.clone()).expect("ASCII");
        let read = MessageParser::default().parse(&ascii).expect("a message");
        assert_eq!(read.parts.len(), 3, "{shown}");
        assert_eq!(read.parts[1].text_contents(), Some("Grüße"), "{shown}");
        assert!(
            shown.contains("Content-Transfer-Encoding: 7bit\r\n\r\n--b") && shown.contains("\r\n\r\n<p>plain\r\n--b--")
        );
    }

    #[test]
    fn raw_utf8_in_headers_is_not_converted() {
        assert_eq!(to_seven_bit("Subject: Grüße\n\nhi\n".as_bytes()), None);
    }
}
