//! Response with a file: representation, validators, preconditions, ranges.
//!
//! Owns the choice between a file, its precompressed sibling and compression on the fly, and between 200, 206, 304, 406,
//! 412 and 416. The rules are those of `http`.

use std::fs::File;
use std::ops::Range;
use std::rc::Rc;

use super::compression;
use crate::commands::web::error_page;
use crate::http::{
    AcceptedCodings, Conditions, ContentCoding, FilePart, HttpDate, Precondition, RangeSelection, Request, Response,
    ResponseBody, Status, Validators, content_range, select_ranges, unsatisfied_range,
};
use crate::site::{Entry, FileStatus, MediaType, Root, SitePath};
use crate::time::Moment;

/// Age below which a file may change again without a new modification date.
const YOUNG_SECONDS: i128 = 2;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Representation of a file.
pub(super) struct Representation {
    pub file: File,
    pub status: FileStatus,
    pub coding: Coding,
    /// The client does not accept it.
    pub is_refused: bool,
}

/// Coding of a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    /// The file itself is compressed.
    Stored(ContentCoding),
    /// The file is compressed for the response.
    Produced(ContentCoding),
}

/// Chooses the representation that the client wants most. A sibling that is older than its file, or cannot be read, does
/// not exist. What is compressed for a response has no ranges.
pub(super) fn negotiate(
    request: &Request<'_>,
    (root, path): (&Root, &SitePath),
    (file, status): (File, FileStatus),
    media_type: &MediaType,
    is_compressing: bool,
) -> Representation {
    let accepted = AcceptedCodings::new(request.fields);
    if media_type.encoding.is_some() || accepted.is_empty() {
        let is_refused = media_type.encoding.is_none() && accepted.is_identity_refused;
        return Representation { file, status, coding: Coding::Identity, is_refused };
    }
    for coding in accepted.iter() {
        let suffix = match coding {
            ContentCoding::Brotli => ".br",
            ContentCoding::Zstd => ".zst",
            ContentCoding::Gzip => ".gz",
        };
        match root.open_entry(&path.with_suffix(suffix)) {
            Ok(Entry::File(sibling, found)) if found.modified_ns >= status.modified_ns => {
                let coding = Coding::Stored(coding);
                return Representation { file: sibling, status: found, coding, is_refused: false };
            }
            _ => {}
        }
    }
    let produced = accepted.iter().find(|coding| compression::is_produced(*coding));
    let is_suitable = || compression::is_worthwhile(&media_type.name, status.length) && !request.fields.has("range");
    let coding = match produced.filter(|_| is_compressing && is_suitable()) {
        Some(coding) => Coding::Produced(coding),
        None => Coding::Identity,
    };
    let is_refused = coding == Coding::Identity && accepted.is_identity_refused;
    Representation { file, status, coding, is_refused }
}

/// Returns the file, a part of it, or the reason why the client gets none.
pub(super) fn respond(
    request: &Request<'_>,
    Representation { file, status, coding, is_refused }: Representation,
    media_type: &MediaType,
    now: Moment,
) -> Response {
    let validators = validators(&status, coding, now);
    let conditions = Conditions::new(request.fields);
    let response = match conditions.evaluate(&validators) {
        Precondition::Failed => {
            let page = error_page(Status::PRECONDITION_FAILED, "The file is not the one that the request asks for.")
                .because("precondition failed");
            return page.with_field("ETag", validators.etag);
        }
        Precondition::NotModified => Response::new(Status::NOT_MODIFIED, ResponseBody::Empty),
        Precondition::Met => match coding {
            Coding::Produced(produced) => {
                let job = compression::job(file, status.length, produced);
                Response::new(Status::OK, ResponseBody::Generated(job))
                    .with_field("Content-Type", media_type.name.as_str())
            }
            Coding::Identity if is_refused => {
                return error_page(Status::NOT_ACCEPTABLE, "The file exists only without a content coding.")
                    .because("not acceptable without a content coding")
                    .with_field("Vary", "Accept-Encoding");
            }
            Coding::Identity | Coding::Stored(_) => {
                // Only GET has ranges (RFC 9110 §14.2).
                let range = conditions.range(&validators).filter(|_| request.method == "GET");
                let selection = range.map_or(RangeSelection::Whole, |range| select_ranges(range, status.length));
                match selection {
                    RangeSelection::Whole => whole(Status::OK, (file, status), media_type),
                    RangeSelection::Parts(parts) => partial_response(file, parts, status.length, &media_type.name),
                    RangeSelection::Unsatisfiable => {
                        return error_page(Status::RANGE_NOT_SATISFIABLE, "The file has no such range.")
                            .because("no such range")
                            .with_field("Content-Range", unsatisfied_range(status.length));
                    }
                }
            }
        },
    };
    let encoding = match coding {
        Coding::Identity => media_type.encoding,
        Coding::Stored(coding) | Coding::Produced(coding) => Some(coding.name()),
    };
    let response = match encoding.filter(|_| response.status != Status::NOT_MODIFIED) {
        Some(encoding) => response.with_field("Content-Encoding", encoding),
        None => response,
    };
    let ranges = if matches!(coding, Coding::Produced(_)) { "none" } else { "bytes" };
    response
        .with_field("ETag", validators.etag)
        .with_field("Last-Modified", validators.modified.to_string())
        .with_field("Accept-Ranges", ranges)
        .with_field("Vary", "Accept-Encoding")
}

/// Returns the whole file, whatever the request asks for.
pub(super) fn whole(status: Status, (file, found): (File, FileStatus), media_type: &MediaType) -> Response {
    Response::new(status, ResponseBody::File(Rc::new(file), 0..found.length))
        .with_field("Content-Type", media_type.name.as_str())
}

/// Validators of a file. A program can set the modification time, so the tag also has the inode and the time of the
/// last status change, which only the kernel sets. What is produced from the file has a tag of its own.
fn validators(status: &FileStatus, coding: Coding, now: Moment) -> Validators {
    let FileStatus { length, inode, modified_ns, changed_ns } = status;
    let suffix = match coding {
        Coding::Produced(coding) => format!("-{}", coding.name()),
        Coding::Identity | Coding::Stored(_) => String::new(),
    };
    Validators {
        etag: format!("\"{inode:x}-{length:x}-{modified_ns:x}-{changed_ns:x}{suffix}\""),
        modified: HttpDate::from_mtime(status.modified(), HttpDate::from_wall_time(now.wall())),
        is_young: is_young(status, now),
    }
}

/// Returns whether a file may change again without a new time of change.
pub(super) fn is_young(status: &FileStatus, now: Moment) -> bool {
    let now_ns = i128::try_from(now.wall().as_nanos()).unwrap_or(i128::MAX);
    now_ns - status.modified_ns.max(status.changed_ns) < YOUNG_SECONDS * NANOS_PER_SECOND
}

/// Returns one range as it is, several as parts of a multipart (RFC 9110 §15.3.7).
fn partial_response(file: File, mut ranges: Vec<Range<u64>>, length: u64, media_type: &str) -> Response {
    if let [range] = ranges.as_slice() {
        let content_range = content_range(range, length);
        return Response::new(Status::PARTIAL_CONTENT, ResponseBody::File(Rc::new(file), ranges.remove(0)))
            .with_field("Content-Type", media_type)
            .with_field("Content-Range", content_range);
    }
    // Random, so that it does not occur in the file.
    let boundary = format!("{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>());
    let part = |range: Range<u64>| {
        let content_range = content_range(&range, length);
        let head = format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {content_range}\r\n\r\n");
        FilePart { head: head.into_bytes(), range }
    };
    let parts = ranges.into_iter().map(part).collect();
    let end = format!("\r\n--{boundary}--\r\n").into_bytes();
    Response::new(Status::PARTIAL_CONTENT, ResponseBody::Parts(Rc::new(file), parts, end))
        .with_field("Content-Type", format!("multipart/byteranges; boundary={boundary}"))
}

#[cfg(test)]
mod tests {
    use super::{AcceptedCodings, Coding, Representation, respond, validators};
    use crate::http::{ContentCoding, Request, Response, ResponseBody};
    use crate::site::{FileStatus, MediaType};
    use crate::time::Moment;
    use std::time::Duration;

    const STATUS: FileStatus =
        FileStatus { length: 100, inode: 7, modified_ns: 1_000_000_000_000, changed_ns: 1_000_000_000_000 };

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::ZERO, Duration::from_secs(seconds))
    }

    fn get(fields: &str) -> Response {
        get_coded(fields, Coding::Identity)
    }

    fn get_coded(fields: &str, coding: Coding) -> Response {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let request = Request::parse(head.as_bytes()).expect("well-formed");
        let media_type = MediaType { name: "text/plain".into(), encoding: None };
        let file = tempfile::tempfile().expect("a file");
        let is_refused = coding == Coding::Identity && AcceptedCodings::new(request.fields).is_identity_refused;
        respond(&request, Representation { file, status: STATUS, coding, is_refused }, &media_type, at(2_000))
    }

    fn field<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
        response.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn every_change_of_a_file_changes_its_entity_tag() {
        let tag = |status: FileStatus| validators(&status, Coding::Identity, at(2_000)).etag;
        let other = [
            FileStatus { length: 101, ..STATUS },
            FileStatus { inode: 8, ..STATUS },
            FileStatus { modified_ns: 1_000_000_000_001, ..STATUS },
            FileStatus { changed_ns: 1_000_000_000_001, ..STATUS },
        ];
        assert!(other.iter().all(|other| tag(*other) != tag(STATUS)));
        assert!(tag(STATUS).starts_with('"') && tag(STATUS).ends_with('"'));
    }

    #[test]
    fn a_file_is_young_for_two_seconds_after_its_last_change() {
        let is_young = |seconds| validators(&STATUS, Coding::Identity, at(seconds)).is_young;
        assert_eq!([999, 1_000, 1_001, 1_002].map(is_young), [true, true, true, false]);
    }

    #[test]
    fn a_range_has_its_own_status_and_fields() {
        let one = get("Range: bytes=0-9\r\n");
        assert_eq!((one.status.code(), field(&one, "Content-Range")), (206, Some("bytes 0-9/100")));
        assert!(matches!(&one.body, ResponseBody::File(_, range) if *range == (0..10)));
        let none = get("Range: bytes=100-\r\n");
        assert_eq!((none.status.code(), field(&none, "Content-Range")), (416, Some("bytes */100")));
        let whole = get("Range: items=0-9\r\n");
        assert_eq!((whole.status.code(), field(&whole, "Accept-Ranges")), (200, Some("bytes")));
    }

    #[test]
    fn several_ranges_are_parts_with_their_own_fields() {
        let response = get("Range: bytes=0-0,-2\r\n");
        let content_type = field(&response, "Content-Type").expect("a type");
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("a boundary").to_owned();
        let ResponseBody::Parts(_, parts, end) = response.body else { panic!("parts") };
        let [first, last] = parts.as_slice() else { panic!("two parts") };
        let head = String::from_utf8_lossy(&first.head).into_owned();
        assert_eq!(
            head,
            format!("\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/100\r\n\r\n")
        );
        assert_eq!((last.range.clone(), end), (98..100, format!("\r\n--{boundary}--\r\n").into_bytes()));
    }

    #[test]
    fn preconditions_come_before_ranges() {
        let tag = validators(&STATUS, Coding::Identity, at(2_000)).etag;
        for (fields, status) in [
            (format!("If-None-Match: {tag}\r\nRange: bytes=0-0\r\n"), 304),
            ("If-Match: \"other\"\r\nRange: bytes=0-0\r\n".to_owned(), 412),
            (format!("If-Match: {tag}\r\nRange: bytes=100-\r\n"), 416),
            (format!("If-Range: {tag}\r\nRange: bytes=0-0\r\n"), 206),
            ("If-Range: \"other\"\r\nRange: bytes=0-0\r\n".to_owned(), 200),
        ] {
            assert_eq!(get(&fields).status.code(), status, "{fields}");
        }
        assert_eq!(field(&get(&format!("If-None-Match: {tag}\r\n")), "ETag"), Some(tag.as_str()));
    }

    #[test]
    fn a_compressed_response_has_a_tag_of_its_own_and_no_ranges() {
        let zstd = Coding::Produced(ContentCoding::Zstd);
        let response = get_coded("", zstd);
        assert_eq!(field(&response, "Content-Encoding"), Some("zstd"));
        assert_eq!(
            (field(&response, "Accept-Ranges"), field(&response, "Vary")),
            (Some("none"), Some("Accept-Encoding"))
        );
        let tag = field(&response, "ETag").expect("a tag").to_owned();
        assert_eq!(
            tag,
            validators(&STATUS, Coding::Identity, at(2_000)).etag.trim_end_matches('"').to_owned() + "-zstd\""
        );
        let again = get_coded(&format!("If-None-Match: {tag}\r\n"), zstd);
        assert_eq!((again.status.code(), field(&again, "Content-Encoding")), (304, None));
        assert_eq!(field(&again, "Vary"), Some("Accept-Encoding"));
        assert_eq!(get(&format!("If-None-Match: {tag}\r\n")).status.code(), 200);
    }

    #[test]
    fn a_file_without_a_coding_is_not_sent_to_a_client_that_refuses_it() {
        assert_eq!(get("Accept-Encoding: br, identity;q=0\r\n").status.code(), 406);
        assert_eq!(
            get_coded("Accept-Encoding: br, *;q=0\r\n", Coding::Stored(ContentCoding::Brotli)).status.code(),
            200
        );
    }
}
