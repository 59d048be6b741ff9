//! Files as parts of a message.
//!
//! Owns the media type and the encoding that preserves the file byte for byte: where mail-builder would treat
//! non-text as lines, the encoding is done here.

use std::io::ErrorKind;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_builder::headers::content_type::ContentType;
use mail_builder::mime::MimePart;

use super::header_value::{MAX_LINE_LENGTH, file_name};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::io_error_text;
use crate::smtp::{canonicalize, count_bare_line_ends};
use crate::stop::StopConditions;

/// Maximum length of a base64 line (RFC 2045 §6.8).
const BASE64_LINE_LENGTH: usize = 76;

pub(super) fn attachment_part(path: &Path, stop: &StopConditions) -> Result<MimePart<'static>> {
    let kind = mime_guess::from_path(path).first_or_octet_stream().essence_str().to_owned();
    Ok(build_part(kind, read_file(path, stop)?))
}

fn build_part(media_type: String, bytes: Vec<u8>) -> MimePart<'static> {
    if media_type.starts_with("message/") {
        // A message part must not be encoded (RFC 2046 §5.2.1); one that would need encoding is sent as a file.
        let mut lines = Vec::new();
        canonicalize(&bytes, &mut lines);
        let is_short = lines.split(|byte| *byte == b'\n').all(|line| line.len() <= MAX_LINE_LENGTH + 1);
        return if bytes.is_ascii() && !bytes.contains(&0) && is_short {
            MimePart::new(media_type, lines).transfer_encoding("7bit")
        } else {
            MimePart::new("application/octet-stream", bytes)
        };
    }
    if media_type.starts_with("text/") && count_bare_line_ends(&bytes).1 > 0 {
        let encoded = STANDARD.encode(&bytes);
        let lines = encoded.as_bytes().chunks(BASE64_LINE_LENGTH).flat_map(|line| line.iter().chain(b"\r\n"));
        return MimePart::new(media_type, lines.copied().collect::<Vec<u8>>()).transfer_encoding("base64");
    }
    MimePart::new(media_type, bytes)
}

/// Adds Content-Disposition with the file name (RFC 2183).
pub(super) fn with_disposition(
    part: MimePart<'static>,
    disposition: &'static str,
    path: &Path,
) -> Result<MimePart<'static>> {
    Ok(part.header("Content-Disposition", ContentType::new(disposition).attribute("filename", file_name(path)?)))
}

fn read_file(path: &Path, stop: &StopConditions) -> Result<Vec<u8>> {
    let shown = format!("'{}'", path.display());
    disk::read_file(path, stop).map_err(|error| read_error(&shown, Exit::InputMissing, error))
}

/// Reads a file, or standard input if the path is `-`.
pub(super) fn read_input(path: &Path, stop: &StopConditions) -> Result<Vec<u8>> {
    if path != Path::new("-") {
        return read_file(path, stop);
    }
    disk::read_input(path, stop).map_err(|error| read_error("standard input", Exit::Io, error))
}

fn read_error(shown: &str, exit: Exit, error: std::io::Error) -> Error {
    let exit = if error.kind() == ErrorKind::TimedOut { Exit::TemporaryFailure } else { exit };
    Error::new(exit, format!("cannot read {shown}: {}", io_error_text(&error))).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::build_part;

    fn serialized(kind: &str, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        build_part(kind.to_owned(), bytes.to_vec()).write_part(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_message_that_would_need_encoding_is_attached_as_a_file() {
        let text = serialized("message/rfc822", b"Subject: x\n\nhi\n");
        assert!(text.contains("message/rfc822") && text.contains("7bit") && text.ends_with("Subject: x\r\n\r\nhi\r\n"));
        for bytes in ["Subject: x\n\n\u{fc}\n".as_bytes(), &[b'x'; 999], b"\0"] {
            let text = serialized("message/rfc822", bytes);
            assert!(text.contains("application/octet-stream") && text.contains("base64"), "{text}");
        }
    }

    #[test]
    fn text_with_bare_cr_is_sent_as_base64() {
        let text = serialized("text/plain", b"a\rb\r");
        assert!(text.contains("base64\r\n\r\nYQ1iDQ==\r\n"), "{text}");
        assert!(serialized("text/plain", &b"x\r".repeat(100)).lines().all(|line| line.len() <= 76));
    }
}
