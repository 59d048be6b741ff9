//! Redaction of credentials in heads, for everything that is shown.

/// Request fields whose values are hidden in the trace.
pub(crate) const CREDENTIAL_FIELDS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// Returns the value of a field for the trace, with credentials hidden, including those in a Location.
fn redact_field(name: &str, value: &str) -> String {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if CREDENTIAL_FIELDS.into_iter().any(is) {
        return "[hidden]".to_owned();
    }
    if is("set-cookie") {
        let (cookie, rest) = value.split_once('=').unwrap_or((value, ""));
        let attributes = rest.find(';').and_then(|at| rest.get(at..)).unwrap_or_default();
        return format!("{cookie}=[hidden]{attributes}");
    }
    redact_userinfo(value).unwrap_or_else(|| value.to_owned())
}

/// Returns a head with credentials hidden, also those in malformed fields.
pub(crate) fn redact_head(raw: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(raw.len());
    let mut hides_continuation = false;
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let is_continuation = text.starts_with([' ', '\t']) && !text.trim().is_empty();
        let redacted = redact_text(text.trim_end_matches(['\r', '\n']));
        let hidden = if is_continuation && hides_continuation { Some(" [hidden]".to_owned()) } else { redacted };
        hides_continuation = hidden.is_some();
        match hidden {
            Some(hidden) => shown.extend_from_slice(format!("{hidden}\r\n").as_bytes()),
            None => shown.extend_from_slice(line),
        }
    }
    shown
}

/// Returns a line with its credentials hidden, or `None` if it has none.
fn redact_text(line: &str) -> Option<String> {
    // A bare CR or a NUL may hide a field within another line.
    let is_malformed = line.contains(['\r', '\0']);
    let lower = line.to_ascii_lowercase();
    let names = CREDENTIAL_FIELDS.iter().chain([&"set-cookie"]);
    if is_malformed && names.clone().any(|name| lower.contains(name)) {
        return Some("[hidden]".to_owned());
    }
    let Some((name, value)) = line.split_once(':') else { return redact_userinfo(line) };
    let shown = redact_field(name.trim(), value.trim());
    if shown == value.trim() { redact_userinfo(line) } else { Some(format!("{}: {shown}", name.trim())) }
}

/// Hides the user and the password of a URL in a line; `None` if the line has neither.
fn redact_userinfo(line: &str) -> Option<String> {
    let (before, rest) = line.split_once("://")?;
    let end = rest.find(['/', '?', '#', ' ']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{before}://[hidden]@{host}{path}"))
}

/// Returns a line of a head with its credentials hidden.
pub(crate) fn redact_line(line: &[u8]) -> Vec<u8> {
    let mut shown = redact_head(line);
    shown.truncate(shown.trim_ascii_end().len());
    shown
}

#[cfg(test)]
mod tests {
    use super::{redact_field, redact_head};

    #[test]
    fn credentials_are_hidden_in_both_directions() {
        assert_eq!(redact_field("AUTHORIZATION", "Bearer t"), "[hidden]");
        assert_eq!(redact_field("Set-Cookie", "sid=t; Path=/"), "sid=[hidden]; Path=/");
        assert_eq!(redact_field("Location", "http://u:t@h/x?y"), "http://[hidden]@h/x?y");
        assert_eq!(redact_field("Location", "/x@y"), "/x@y");
        assert_eq!(redact_field("X", "t"), "t");
        for line in [
            "Authorization: Basic\r\n  t7\r\n",
            "Authorization : t7\r\n",
            " Authorization: t7\r\n",
            "Cookie:\r\n\tsid=t7\r\n",
            "Set-Cookie : sid=t7\r\n",
            "Host: a\rAuthorization: t7\r\n",
            "Authorization\0: t7\r\n",
            "GET http://bob:t7@x/ HTTP/1.1\r\n",
            "Referer: http://bob:t7@x/\r\n",
        ] {
            let shown = String::from_utf8(redact_head(line.as_bytes())).expect("text");
            assert!(!shown.contains("t7") && shown.contains("[hidden]"), "{line:?}: {shown:?}");
        }
        let head = b"HTTP/1.1 302 Found\r\nset-cookie: a=t\r\nX: y\r\n\r\n";
        assert_eq!(redact_head(head), b"HTTP/1.1 302 Found\r\nset-cookie: a=[hidden]\r\nX: y\r\n\r\n");
    }
}
