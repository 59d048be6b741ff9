//! Service extensions that a server announces in its EHLO reply (RFC 5321 §4.1.1.1).
//!
//! Owns the parser for the EHLO reply. Keywords are case-insensitive, and after STARTTLS only the second reply
//! counts (RFC 3207 §4.2).

use super::reply::Reply;

/// Extension that is announced by its keyword alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// RFC 3207.
    Starttls,
    /// RFC 2920.
    Pipelining,
    /// RFC 6152.
    EightBitMime,
    /// RFC 6531.
    Smtputf8,
    /// RFC 3030.
    Chunking,
    /// RFC 3461.
    Dsn,
    /// RFC 8689.
    RequireTls,
}

/// Service extensions of one EHLO reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// Lines as received, without the greeting.
    pub lines: Vec<String>,
    supported: Vec<Extension>,
    /// RFC 1870; `Some(0)` = no limit.
    pub size: Option<u64>,
    /// RFC 4954; names as received.
    pub auth_mechanisms: Vec<String>,
}

impl Extension {
    const ALL: [Self; 7] = [
        Self::Starttls,
        Self::Pipelining,
        Self::EightBitMime,
        Self::Smtputf8,
        Self::Chunking,
        Self::Dsn,
        Self::RequireTls,
    ];

    /// Keyword in the reply to EHLO.
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::Starttls => "STARTTLS",
            Self::Pipelining => "PIPELINING",
            Self::EightBitMime => "8BITMIME",
            Self::Smtputf8 => "SMTPUTF8",
            Self::Chunking => "CHUNKING",
            Self::Dsn => "DSN",
            Self::RequireTls => "REQUIRETLS",
        }
    }
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
                "SIZE" => extensions.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "AUTH" => {
                    let mechanisms = std::iter::once(joined).chain(words).filter(|word| !word.is_empty());
                    for mechanism in mechanisms.map(str::to_owned) {
                        if !extensions.auth_mechanisms.contains(&mechanism) {
                            extensions.auth_mechanisms.push(mechanism);
                        }
                    }
                }
                keyword => extensions.supported.extend(Extension::ALL.iter().find(|known| known.keyword() == keyword)),
            }
        }
        extensions
    }

    /// Returns whether the server announced an extension.
    pub(crate) fn supports(&self, extension: Extension) -> bool {
        self.supported.contains(&extension)
    }
}

#[cfg(test)]
mod tests {
    use super::{Extension, Extensions};
    use crate::smtp::reply::Reply;

    fn extensions(text: &str) -> Extensions {
        Extensions::parse(&Reply::parse(text.as_bytes()).expect("well-formed").expect("complete").1)
    }

    #[test]
    fn keywords_are_parsed_in_any_case_and_in_old_forms() {
        let extensions = extensions(
            "250-mx starttls\r\n250-starttls\r\n250-Size 100\r\n250-auth plain LOGIN\r\n250-AUTH=LOGIN\r\n250 \r\n",
        );
        assert!(extensions.supports(Extension::Starttls) && !extensions.supports(Extension::Pipelining));
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
