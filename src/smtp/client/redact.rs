//! Redaction of secrets in replies: a server that repeats a line it does not understand would put the
//! password into every trace, log and error.

use std::borrow::Cow;
use std::collections::HashSet;

use super::ClientSession;
use crate::mac::Secret;
use crate::smtp::reply::Reply;

/// Maximum length of the fragments that are searched; a server may have truncated the secret at either end.
const MAX_FRAGMENT_LENGTH: usize = 8;
/// Minimum length; shorter fragments occur in any text.
const MIN_FRAGMENT_LENGTH: usize = 4;
const PLACEHOLDER: &str = "[hidden]";

impl ClientSession {
    /// Stores the secret of a sent line for redaction.
    pub(super) fn remember_secret(&mut self, line: &Secret) {
        let word = line.expose().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        self.login.sent_secrets.push(Secret::new(word.to_vec()));
    }

    pub(super) fn redact_reply<'r>(&self, reply: &'r Reply) -> Cow<'r, Reply> {
        if self.config.credentials.is_none() {
            return Cow::Borrowed(reply);
        }
        let lines = reply.lines.iter().map(|line| self.redact_text(line.clone())).collect();
        Cow::Owned(Reply { lines, ..*reply })
    }

    pub(super) fn redact_text(&self, text: String) -> String {
        let password = self.config.credentials.as_ref().map(|login| &login.secret);
        // Replies are converted from UTF-8 lossily, so the secrets are too before they are compared.
        let secrets =
            self.login.sent_secrets.iter().chain(password).map(|secret| String::from_utf8_lossy(secret.expose()));
        secrets
            .filter(|secret| secret.len() >= MIN_FRAGMENT_LENGTH)
            .fold(text, |text, secret| redact_secret(&text, &secret))
    }
}

/// Hides every word that contains a fragment of a secret, ignoring case.
fn redact_secret(text: &str, secret: &str) -> String {
    let (lower, secret) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let length = (secret.len() * 2 / 3).clamp(MIN_FRAGMENT_LENGTH, MAX_FRAGMENT_LENGTH);
    let fragments: HashSet<&[u8]> = secret.as_bytes().windows(length).collect();
    let is_edge = |c: char| c.is_whitespace() || "\"'<>".contains(c);
    let mut shown = String::new();
    let mut done = 0;
    for (at, _) in lower.as_bytes().windows(length).enumerate().filter(|(_, fragment)| fragments.contains(fragment)) {
        // Fragments overlap, and a secret may contain spaces.
        if at + length <= done {
            continue;
        }
        let word = lower.get(..at).and_then(|front| front.rsplit(is_edge).next()).map_or(at, str::len);
        let start = (at - word).max(done);
        shown.push_str(text.get(done..start).unwrap_or_default());
        if !shown.ends_with(PLACEHOLDER) {
            shown.push_str(PLACEHOLDER);
        }
        let end = at + length;
        done = end + lower.get(end..).and_then(|rest| rest.find(is_edge)).unwrap_or(lower.len() - end);
    }
    shown + text.get(done..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::redact_secret;

    #[test]
    fn a_secret_is_hidden_complete_truncated_and_in_any_case() {
        for (text, shown) in [
            ("what is \"AHVzZXIAc2VzYW1l\"?", "what is \"[hidden]\"?"),
            ("AHVzZXIAc2VzYW1lAHVzZXIAc2VzYW1l", "[hidden]"),
            ("AHVzZXIAc2V", "[hidden]"),
            ("zXIAc2VzYW1l", "[hidden]"),
            ("ahvzzxiac2vzyw1l", "[hidden]"),
            ("AHVzZX is another", "AHVzZX is another"),
            ("a AHVzZXIAc2VzYW1l b AHVzZXIAc2VzYW1l", "a [hidden] b [hidden]"),
            ("user/AHVzZXIAc2VzYW1l: no", "[hidden] no"),
            ("\u{fc}\u{fc}AHVzZXIAc2VzYW1l\u{fc} \u{fc}", "[hidden] \u{fc}"),
        ] {
            assert_eq!(redact_secret(text, "AHVzZXIAc2VzYW1l"), shown, "{text}");
        }
        assert_eq!(redact_secret("pass word 1 2", "pass word 1"), "[hidden] 2");
        assert_eq!(redact_secret("no sEcr3 here", "sEcr3t"), "no [hidden] here");
        assert_eq!(redact_secret("\u{fc}\u{f6}\u{e4}x no", "\u{f6}\u{e4}xyz"), "[hidden] no");
    }
}
