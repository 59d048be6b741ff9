//! `--auth-file`: users that can log in.
//!
//! Owns the format, `user:password` on each line, and the check that other users cannot read the file. Empty
//! lines and lines that begin with `#` are ignored.

use std::path::Path;

use super::args::read_private;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::mac::Secret;
use crate::stop::StopConditions;

/// Reads the users; without any, no client could log in: an error.
pub(super) fn read_users(path: &Path, stop: &StopConditions) -> Result<Vec<(String, Secret)>> {
    let bytes = Secret::new(read_private(path, "a password file", stop)?);
    let users = parse(bytes.expose()).map_err(|(line, why)| {
        Error::new(Exit::Config, format!("{}, line {line}: {why}", path.display()))
            .expected("user:password on each line, in UTF-8")
    })?;
    if users.is_empty() {
        return Err(Error::new(Exit::Config, format!("{} has no users", path.display()))
            .expected("user:password on each line, in UTF-8"));
    }
    Ok(users)
}

/// Line number and reason; never the content of the line, which may be a password.
type ParseError = (usize, &'static str);

fn parse(bytes: &[u8]) -> Result<Vec<(String, Secret)>, ParseError> {
    let mut users: Vec<(String, Secret)> = Vec::new();
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let text = std::str::from_utf8(text).map_err(|_| (line, "not UTF-8"))?;
        let (user, password) = text.split_once(':').ok_or((line, "no colon"))?;
        if user.is_empty() || password.is_empty() || text.chars().any(char::is_control) {
            return Err((line, "empty user or password, or a control character"));
        }
        if users.iter().any(|(known, _)| known == user) {
            return Err((line, "duplicate user"));
        }
        users.push((user.to_owned(), Secret::new(password.as_bytes().to_vec())));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_password_is_everything_after_the_first_colon() {
        let users =
            parse(b"# users\n\ntim:t:e a\r\nj\xc3\xb6rg:x\n").unwrap_or_else(|(line, why)| panic!("{line}: {why}"));
        let read: Vec<_> = users.iter().map(|(user, secret)| (user.as_str(), secret.expose())).collect();
        assert_eq!(read, [("tim", &b"t:e a"[..]), ("j\u{f6}rg", b"x")]);
    }

    #[test]
    fn errors_are_reported_with_their_line() {
        for (text, line) in
            [(&b"tim"[..], 1), (b"a:b\n:x", 2), (b"a:", 1), (b"a:b\na:c", 2), (b"a:\x01", 1), (b"\n\xff:x", 2)]
        {
            assert_eq!(parse(text).map(|_| ()).expect_err("wrong").0, line, "{text:?}");
        }
    }
}
