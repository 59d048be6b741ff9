//! Explanations of `--explain`: one sentence with its RFC clause for the request, the status and the end of the body.
//!
//! Written for readers who see an HTTP dialogue for the first time. Nothing is decided here.

/// Explains a request by its first line.
pub(crate) fn request(line: &str) -> &'static str {
    match line.split(' ').next().unwrap_or_default() {
        "GET" => "the client asks for the content of this path (RFC 9110 §9.3.1)",
        "HEAD" => "the client asks for the head of the response only (RFC 9110 §9.3.2)",
        "POST" => "the client sends content for the resource to process (RFC 9110 §9.3.3)",
        _ => "the first word is the method, then the target and the version (RFC 9112 §3)",
    }
}

/// Explains a status code.
#[expect(clippy::match_overlapping_arm, reason = "the classes come after the codes with a sentence of their own")]
pub(crate) fn status(code: u16) -> &'static str {
    match code {
        200 => "the request succeeded; the content follows the empty line (RFC 9110 §15.3.1)",
        204 => "the request succeeded, and the response has no content (RFC 9110 §15.3.5)",
        206 => "a part of the content, as the Range field asked (RFC 9110 §15.3.7)",
        301 | 302 | 303 | 307 | 308 => "the content is elsewhere: the Location field says where (RFC 9110 §15.4)",
        304 => "not modified: the client's copy is still good (RFC 9110 §15.4.5)",
        400 => "the server cannot understand the request (RFC 9110 §15.5.1)",
        401 | 407 => "the client must log in first (RFC 9110 §15.5.2)",
        403 => "the server understood the request and refuses it (RFC 9110 §15.5.4)",
        404 => "there is nothing at this path (RFC 9110 §15.5.5)",
        405 => "the resource exists but does not support the method (RFC 9110 §15.5.6)",
        408 => "the request took too long (RFC 9110 §15.5.9)",
        501 => "the server does not support the method or a feature of the request (RFC 9110 §15.6.2)",
        100..=199 => "an interim response; the final one follows (RFC 9110 §15.2)",
        200..=299 => "the request succeeded (RFC 9110 §15.3)",
        300..=399 => "the client has to do more to get the content (RFC 9110 §15.4)",
        400..=499 => "the client made a mistake (RFC 9110 §15.5)",
        _ => "the server failed; the request may be right (RFC 9110 §15.6)",
    }
}

/// Explains how the end of a body is found, from the fields of its head.
pub(crate) fn body_end<'f>(fields: impl Iterator<Item = (&'f str, &'f str)>) -> &'static str {
    let mut has_length = false;
    for (name, value) in fields {
        if name.eq_ignore_ascii_case("transfer-encoding") && value.to_ascii_lowercase().contains("chunked") {
            return "the body comes in chunks, each with its size; one of size 0 ends it (RFC 9112 §7.1)";
        }
        has_length |= name.eq_ignore_ascii_case("content-length");
    }
    if has_length {
        "Content-Length says where the body ends (RFC 9112 §6.3)"
    } else {
        "without Content-Length and chunks, a response body ends with the connection (RFC 9112 §6.3)"
    }
}

#[cfg(test)]
mod tests {
    use super::{body_end, request, status};

    #[test]
    fn every_step_is_explained_with_its_clause() {
        assert!((100..=599).all(|code| status(code).contains("RFC 9110")));
        assert!(
            ["GET / HTTP/1.1", "HEAD / HTTP/1.1", "POST / HTTP/1.1", "X"]
                .iter()
                .all(|line| request(line).contains("RFC 91"))
        );
        assert_ne!(status(404), status(500));
    }

    #[test]
    fn the_end_of_a_body_follows_from_the_fields() {
        let explain = |fields: &[(&'static str, &'static str)]| body_end(fields.iter().copied());
        assert!(explain(&[("content-length", "5")]).contains("Content-Length says"));
        assert!(explain(&[("Content-Length", "5"), ("Transfer-Encoding", "Chunked")]).contains("chunks, each"));
        assert!(explain(&[]).contains("ends with the connection"));
    }
}
