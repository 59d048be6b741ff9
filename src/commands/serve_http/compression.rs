//! Compression of responses on the fly (`--compress`).
//!
//! Owns the choice of what is compressed. The work is done by a helper thread.

use std::fs::File;
use std::io::{self, Read as _};

use flate2::Compression;
use flate2::read::GzEncoder;

use crate::http::{BodyJob, ContentCoding};

/// Size below which the gain is less than the cost of a second packet.
const MIN_BYTES: u64 = 1024;
/// Size above which the file is sent as it is: the compressed body is held in memory.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Default levels of the two formats.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// Returns whether content of this type and size is compressed.
pub(super) fn is_worthwhile(media_type: &str, length: u64) -> bool {
    let name = media_type.split(';').next().unwrap_or_default().trim();
    let is_text = name.starts_with("text/")
        || name.ends_with("+xml")
        || name.ends_with("+json")
        || matches!(
            name,
            "application/json" | "application/javascript" | "application/xml" | "application/wasm" | "application/rtf"
        );
    is_text && (MIN_BYTES..=MAX_BYTES).contains(&length)
}

/// Returns whether a coding is produced on the fly; brotli at a useful level is too slow.
pub(super) fn is_produced(coding: ContentCoding) -> bool {
    matches!(coding, ContentCoding::Zstd | ContentCoding::Gzip)
}

/// Work that compresses the first `length` bytes of a file. A file that has become shorter is an error: the entity tag
/// belongs to the longer one.
pub(super) fn job(file: File, length: u64, coding: ContentCoding) -> BodyJob {
    BodyJob(Box::new(move || {
        let mut content = file.take(length);
        let compressed = match coding {
            ContentCoding::Zstd => zstd::encode_all(&mut content, ZSTD_LEVEL)?,
            ContentCoding::Gzip | ContentCoding::Brotli => {
                let mut compressed = Vec::new();
                GzEncoder::new(&mut content, Compression::new(GZIP_LEVEL)).read_to_end(&mut compressed)?;
                compressed
            }
        };
        if content.limit() > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
        }
        Ok(compressed)
    }))
}

#[cfg(test)]
mod tests {
    use super::{is_worthwhile, job};
    use crate::http::ContentCoding;
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(content).expect("written");
        file.reopen().expect("opened")
    }

    #[test]
    fn text_of_a_useful_size_is_compressed() {
        for (media_type, length, expected) in [
            ("text/html; charset=utf-8", 1024, true),
            ("text/html", 1023, false),
            ("text/css", 8 << 20, true),
            ("text/css", (8 << 20) + 1, false),
            ("image/svg+xml", 5000, true),
            ("application/json", 5000, true),
            ("image/png", 5000, false),
            ("application/octet-stream", 5000, false),
        ] {
            assert_eq!(is_worthwhile(media_type, length), expected, "{media_type} {length}");
        }
    }

    #[test]
    fn what_is_compressed_can_be_restored() {
        let text = "All work and no play. ".repeat(200);
        let produce = |coding| (job(file(text.as_bytes()), text.len() as u64, coding).0)().expect("compressed");
        assert_eq!(zstd::decode_all(&produce(ContentCoding::Zstd)[..]).expect("restored"), text.as_bytes());
        let mut restored = String::new();
        let compressed = produce(ContentCoding::Gzip);
        flate2::read::GzDecoder::new(&compressed[..]).read_to_string(&mut restored).expect("restored");
        assert_eq!(restored, text);
        assert!(compressed.len() < text.len() / 10);
    }

    #[test]
    fn a_file_that_has_become_shorter_is_an_error() {
        assert!((job(file(b"short"), 1024, ContentCoding::Gzip).0)().is_err());
    }
}
