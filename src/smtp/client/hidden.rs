//! What must not be shown although the server says it: a server that repeats the line it does not
//! understand would put the password into every trace, log and error.

use super::Client;
use crate::smtp::reply::Reply;
use crate::smtp::secret::Secret;

/// So much of a secret gives it away; a server may have cut the rest.
const TELLING: usize = 8;
/// Shorter ones are in every text.
const SHORTEST: usize = 4;
const HIDDEN: &str = "[hidden]";

impl Client {
    /// Remembers what was said and is not to be shown.
    pub(super) fn keep_hidden(&mut self, line: &Secret) {
        let word = line.expose().rsplit(|octet| *octet == b' ').next().unwrap_or_default();
        self.hidden.push(Secret::new(word.to_vec()));
    }

    /// A reply without them.
    pub(super) fn without_secrets(&self, mut reply: Reply) -> Reply {
        for line in &mut reply.lines {
            *line = self.redacted(std::mem::take(line));
        }
        reply
    }

    /// A text without them.
    pub(super) fn redacted(&self, text: String) -> String {
        let password = self.plan.login.as_ref().map(|login| &login.secret);
        // As replies are read: what is no UTF-8 is shown in another way, and known by that.
        let secrets = self.hidden.iter().chain(password).map(|secret| String::from_utf8_lossy(secret.expose()));
        secrets.filter(|secret| secret.len() >= SHORTEST).fold(text, |text, secret| redact(text, &secret))
    }
}

fn redact(text: String, secret: &str) -> String {
    let start = secret.char_indices().nth(TELLING).map_or(secret, |(end, _)| secret.get(..end).unwrap_or(secret));
    if !text.contains(start) {
        return text;
    }
    let mut shown = String::new();
    let mut rest = text.as_str();
    while let Some((front, _)) = rest.split_once(start) {
        shown.push_str(front);
        shown.push_str(HIDDEN);
        let found = rest.get(front.len()..).unwrap_or_default();
        let after = found.strip_prefix(secret).or(found.strip_prefix(start)).unwrap_or_default();
        // Whatever hangs on is a part of it, or something around it.
        rest = after.trim_start_matches(|c: char| !c.is_whitespace() && !"\"'<>".contains(c));
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn a_secret_is_found_whole_and_cut() {
        for (text, shown) in [
            ("what is \"AHVzZXIAc2VzYW1l\"?", "what is \"[hidden]\"?"),
            ("AHVzZXIAc2VzYW1lAHVzZXIAc2VzYW1l", "[hidden]"),
            ("AHVzZXIAc2V", "[hidden]"),
            ("AHVzZX is another", "AHVzZX is another"),
            ("a AHVzZXIAc2VzYW1l b AHVzZXIAc2VzYW1l", "a [hidden] b [hidden]"),
        ] {
            assert_eq!(redact(text.to_owned(), "AHVzZXIAc2VzYW1l"), shown, "{text}");
        }
        assert_eq!(redact("pass word 1 2".to_owned(), "pass word 1"), "[hidden] 2");
    }
}
