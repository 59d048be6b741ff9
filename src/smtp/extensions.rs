//! Service extensions that a server announces in its EHLO reply (RFC 5321 §4.1.1.1).
//!
//! Owns the parser for the EHLO reply. Keywords are case-insensitive, and after STARTTLS only the second reply
//! counts (RFC 3207 §4.2).

use super::reply::Reply;

/// Service extensions of one EHLO reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// Lines as received, without the greeting.
    pub lines: Vec<String>,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 8689.
    pub requiretls: bool,
    /// RFC 1870; `Some(0)` = no limit.
    pub size: Option<u64>,
    /// RFC 4954; names as received.
    pub auth_mechanisms: Vec<String>,
}

impl Extensions {
    /// Parses the reply to EHLO; its first line is a greeting.
    pub(crate) fn parse(reply: &Reply) -> Self {
        let mut extensions = Self { lines: reply.lines.iter().skip(1).cloned().collect(), ..Self::default() };
        for line in reply.lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            // An old form joins AUTH and the first mechanism with `=`.
            let (keyword, joined) = keyword.split_once('=').unwrap_or((keyword, ""));
            match keyword.to_ascii_uppercase().as_str() {
                "STARTTLS" => extensions.starttls = true,
                "PIPELINING" => extensions.pipelining = true,
                "8BITMIME" => extensions.eight_bit_mime = true,
                "SMTPUTF8" => extensions.smtputf8 = true,
                "CHUNKING" => extensions.chunking = true,
                "DSN" => extensions.dsn = true,
                "REQUIRETLS" => extensions.requiretls = true,
                "SIZE" => extensions.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "AUTH" => {
                    let mechanisms = std::iter::once(joined).chain(words).filter(|word| !word.is_empty());
                    for mechanism in mechanisms.map(str::to_owned) {
                        if !extensions.auth_mechanisms.contains(&mechanism) {
                            extensions.auth_mechanisms.push(mechanism);
                        }
                    }
                }
                _ => {}
            }
        }
        extensions
    }
}

#[cfg(test)]
mod tests {
    use super::Extensions;
    use crate::smtp::reply::Reply;

    fn extensions(text: &str) -> Extensions {
        Extensions::parse(&Reply::parse(text.as_bytes()).expect("well-formed").expect("complete").1)
    }

    #[test]
    fn keywords_are_parsed_in_any_case_and_in_old_forms() {
        let extensions = extensions(
            "250-mx starttls\r\n250-starttls\r\n250-Size 100\r\n250-auth plain LOGIN\r\n250-AUTH=LOGIN\r\n250 \r\n",
        );
        assert!(extensions.starttls && !extensions.pipelining);
        assert_eq!(
            (extensions.size, extensions.auth_mechanisms),
            (Some(100), vec!["plain".to_owned(), "LOGIN".to_owned()])
        );
    }

    #[test]
    fn the_greeting_line_offers_nothing() {
        assert_eq!(extensions("250 STARTTLS AUTH PLAIN\r\n"), Extensions::default());
    }
}
