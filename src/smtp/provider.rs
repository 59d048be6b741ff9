//! What well-known providers want of a login.
//!
//! Owns the table; their names for it change, so each says where the provider itself explains it.

/// Domains of their submission servers, and what to do there after a 534 or 535.
const PROVIDERS: &[(&[&str], &str)] = &[
    (
        &["gmail.com", "googlemail.com"],
        "Google takes no account password here: turn on 2-step verification and make an app password \
         (myaccount.google.com/apppasswords), or use --auth XOAUTH2 with an access token",
    ),
    (
        &["office365.com", "outlook.com", "hotmail.com"],
        "Microsoft takes no password here: use --auth XOAUTH2 with an access token; in an organisation, SMTP AUTH must \
         be allowed for the mailbox too",
    ),
    (
        &["yahoo.com", "aol.com"],
        "Yahoo takes no account password here: make an app password in the account's security settings",
    ),
    (&["me.com", "icloud.com"], "Apple takes no account password here: make an app-specific one at account.apple.com"),
    (&["fastmail.com"], "Fastmail takes no account password here: make an app password in its settings"),
    (
        &["zoho.com", "zoho.eu"],
        "with two-factor login Zoho wants an application-specific password, made at accounts.zoho.com",
    ),
];

/// What the provider behind this server wants, if it is a known one.
pub(super) fn auth_hint(host: &str) -> Option<&'static str> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_of = |domain: &&str| host.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    PROVIDERS.iter().find(|(domains, _)| domains.iter().any(is_of)).map(|(_, wants)| *wants)
}

#[cfg(test)]
mod tests {
    use super::auth_hint;

    #[test]
    fn a_provider_is_known_by_its_domain_alone() {
        assert!(auth_hint("smtp.GMAIL.com.").is_some_and(|wants| wants.contains("app password")));
        assert!(auth_hint("smtp-mail.outlook.com").is_some_and(|wants| wants.contains("XOAUTH2")));
        for other in ["notgmail.com", "gmail.com.evil.test", "mx.test", "com", ""] {
            assert_eq!(auth_hint(other), None, "{other}");
        }
    }
}
