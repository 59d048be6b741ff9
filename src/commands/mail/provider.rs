//! Login advice for well-known mail providers.
//! One entry per provider: the kind of credential it accepts and how to get one.

/// Domains of submission servers, and the advice after a 534 or 535.
const PROVIDERS: &[(&[&str], &str)] = &[
    (
        &["gmail.com", "googlemail.com"],
        "Google does not accept the account password: turn on 2-step verification and create an app password \
         (myaccount.google.com/apppasswords), or use --auth XOAUTH2 with an access token",
    ),
    (
        &["office365.com", "outlook.com", "hotmail.com"],
        "Microsoft does not accept passwords: use --auth XOAUTH2 with an access token; in an organisation, SMTP AUTH \
         must also be enabled for the mailbox",
    ),
    (
        &["yahoo.com", "aol.com"],
        "Yahoo does not accept the account password: create an app password in the account's security settings",
    ),
    (
        &["me.com", "icloud.com"],
        "Apple does not accept the account password: create an app-specific password at account.apple.com",
    ),
    (&["fastmail.com"], "Fastmail does not accept the account password: create an app password in the settings"),
    (
        &["zoho.com", "zoho.eu"],
        "with two-factor login Zoho requires an application-specific password, created at accounts.zoho.com",
    ),
];

/// Returns the advice for the provider of this server, if known.
pub(super) fn auth_hint(host: &str) -> Option<&'static str> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_below =
        |domain: &&str| host.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    PROVIDERS.iter().find(|(domains, _)| domains.iter().any(is_below)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::auth_hint;

    #[test]
    fn a_provider_is_recognised_by_its_domain_only() {
        assert!(auth_hint("smtp.GMAIL.com.").is_some_and(|hint| hint.contains("app password")));
        assert!(auth_hint("smtp-mail.outlook.com").is_some_and(|hint| hint.contains("XOAUTH2")));
        for other in ["notgmail.com", "gmail.com.evil.test", "mx.test", "com", ""] {
            assert_eq!(auth_hint(other), None, "{other}");
        }
    }
}
