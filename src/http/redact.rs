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
    match (is("location"), value.split_once("://")) {
        (true, Some((scheme, rest))) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            match authority.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://[hidden]@{host}{path}"),
                None => value.to_owned(),
            }
        }
        _ => value.to_owned(),
    }
}

/// Returns a response head for the trace, with credentials hidden.
pub(crate) fn redact_head(raw: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(raw.len());
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        match text.trim_end_matches(['\r', '\n']).split_once(':') {
            Some((name, value)) if redact_field(name, value.trim()) != value.trim() => {
                shown.extend_from_slice(format!("{name}: {}\r\n", redact_field(name, value.trim())).as_bytes());
            }
            _ => shown.extend_from_slice(line),
        }
    }
    shown
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
        let head = b"HTTP/1.1 302 Found\r\nset-cookie: a=t\r\nX: y\r\n\r\n";
        assert_eq!(redact_head(head), b"HTTP/1.1 302 Found\r\nset-cookie: a=[hidden]\r\nX: y\r\n\r\n");
    }
}
