//! What a server offers.
//!
//! Owns the words of EHLO (RFC 5321 §4.1.1.1). They are compared without case, and after STARTTLS only
//! the second answer counts (RFC 3207 §4.2).

use super::reply::Reply;

/// The service extensions of one EHLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// Each line as it was said.
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
    /// RFC 1870; `Some(0)` is without a limit.
    pub size: Option<u64>,
    /// RFC 4954, as they were said.
    pub auth_mechanisms: Vec<String>,
}

impl Extensions {
    /// Reads the reply to EHLO; its first line is a greeting.
    pub(crate) fn parse(reply: &Reply) -> Self {
        let mut offers = Self { lines: reply.lines.iter().skip(1).cloned().collect(), ..Self::default() };
        for line in reply.lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            // An old form joins the first mechanism with `=`.
            let (keyword, joined) = keyword.split_once('=').unwrap_or((keyword, ""));
            match keyword.to_ascii_uppercase().as_str() {
                "STARTTLS" => offers.starttls = true,
                "PIPELINING" => offers.pipelining = true,
                "8BITMIME" => offers.eight_bit_mime = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "CHUNKING" => offers.chunking = true,
                "DSN" => offers.dsn = true,
                "REQUIRETLS" => offers.requiretls = true,
                "SIZE" => offers.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "AUTH" => {
                    let mechanisms = std::iter::once(joined).chain(words).filter(|word| !word.is_empty());
                    for mechanism in mechanisms.map(str::to_owned) {
                        if !offers.auth_mechanisms.contains(&mechanism) {
                            offers.auth_mechanisms.push(mechanism);
                        }
                    }
                }
                _ => {}
            }
        }
        offers
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
    fn words_are_read_in_any_case_and_old_forms() {
        let offers = extensions(
            "250-mx starttls\r\n250-starttls\r\n250-Size 100\r\n250-auth plain LOGIN\r\n250-AUTH=LOGIN\r\n250 \r\n",
        );
        assert!(offers.starttls && !offers.pipelining);
        assert_eq!((offers.size, offers.auth_mechanisms), (Some(100), vec!["plain".to_owned(), "LOGIN".to_owned()]));
    }

    #[test]
    fn the_greeting_is_no_offer() {
        assert_eq!(extensions("250 STARTTLS AUTH PLAIN\r\n"), Extensions::default());
    }
}
