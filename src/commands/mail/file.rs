//! A file as a part of a message.
//!
//! Owns its media type, and the encoding under which it arrives octet for octet: where the composer would
//! take it for lines although it is none, it is written down here.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_builder::headers::content_type::ContentType;
use mail_builder::mime::MimePart;

use super::input::read;
use super::message::{LONGEST_LINE, file_name};
use crate::error::Result;
use crate::smtp::{bare_ends, canonical};

/// The longest line of base64 (RFC 2045 §6.8).
const BASE64_LINE: usize = 76;

/// The part that a file is.
pub fn part(path: &Path) -> Result<MimePart<'static>> {
    let kind = mime_guess::from_path(path).first_or_octet_stream().essence_str().to_owned();
    Ok(part_of(kind, read(path)?))
}

fn part_of(kind: String, octets: Vec<u8>) -> MimePart<'static> {
    if kind.starts_with("message/") {
        // A message within a message is not encoded (RFC 2046 §5.2.1); one that would have to be is a file.
        let mut lines = Vec::new();
        canonical(&octets, &mut lines);
        let is_short = lines.split(|octet| *octet == b'\n').all(|line| line.len() <= LONGEST_LINE + 1);
        return if octets.is_ascii() && !octets.contains(&0) && is_short {
            MimePart::new(kind, lines).transfer_encoding("7bit")
        } else {
            MimePart::new("application/octet-stream", octets)
        };
    }
    if kind.starts_with("text/") && bare_ends(&octets).1 > 0 {
        let encoded = STANDARD.encode(&octets);
        let lines = encoded.as_bytes().chunks(BASE64_LINE).flat_map(|line| line.iter().chain(b"\r\n"));
        return MimePart::new(kind, lines.copied().collect::<Vec<u8>>()).transfer_encoding("base64");
    }
    MimePart::new(kind, octets)
}

/// A part with what it is for and the name of its file (RFC 2183).
pub fn disposed(part: MimePart<'static>, how: &'static str, path: &Path) -> Result<MimePart<'static>> {
    Ok(part.header("Content-Disposition", ContentType::new(how).attribute("filename", file_name(path)?)))
}

#[cfg(test)]
mod tests {
    use super::part_of;

    fn written(kind: &str, octets: &[u8]) -> String {
        let mut out = Vec::new();
        part_of(kind.to_owned(), octets.to_vec()).write_part(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_message_is_a_message_unless_it_would_have_to_be_encoded() {
        let text = written("message/rfc822", b"Subject: x\n\nhi\n");
        assert!(text.contains("message/rfc822") && text.contains("7bit") && text.ends_with("Subject: x\r\n\r\nhi\r\n"));
        for octets in ["Subject: x\n\n\u{fc}\n".as_bytes(), &[b'x'; 999], b"\0"] {
            let text = written("message/rfc822", octets);
            assert!(text.contains("application/octet-stream") && text.contains("base64"), "{text}");
        }
    }

    #[test]
    fn what_would_not_come_back_as_lines_goes_in_base64() {
        let text = written("text/plain", b"a\rb\r");
        assert!(text.contains("base64\r\n\r\nYQ1iDQ==\r\n"), "{text}");
        assert!(written("text/plain", &b"x\r".repeat(100)).lines().all(|line| line.len() <= 76));
    }
}
