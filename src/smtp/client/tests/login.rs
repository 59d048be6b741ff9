//! Logins of a client session.

use super::{Fixture, client_config, failure_kind, sends, with_credentials};
use crate::failure::FailureKind;
use crate::smtp::client::config::{ClientConfig, Credentials, Security};

#[test]
fn h10_and_h18_lower_case_mechanisms_and_endless_challenges() {
    let with_cleartext = |config: ClientConfig| {
        let mut config = with_credentials(config);
        config.credentials = config.credentials.map(|login| Credentials { allow_cleartext: true, ..login });
        config
    };
    let mut harness = Fixture::new(with_cleartext(client_config(&["a@x.test"])));
    harness.server_sends("220 mx\r\n");
    assert_eq!(harness.server_sends("250-mx\r\n250 auth plain\r\n"), sends("AUTH PLAIN AHRpbQBzZXNhbWU=\r\n"));
    assert_eq!(harness.server_sends("235 2.7.0 in\r\n"), sends("MAIL FROM:<me@x.test>\r\n"));
    let (_, shown) = harness.finish();
    assert!(shown.contains(&"AUTH PLAIN [hidden]".to_owned()) && !shown.concat().contains("AHRpbQ"), "{shown:?}");

    let mut harness = Fixture::new(with_cleartext(client_config(&["a@x.test"])));
    harness.server_sends("220 mx\r\n");
    harness.server_sends("250-mx\r\n250 AUTH LOGIN\r\n");
    assert_eq!(harness.server_sends("334 !!!\r\n"), sends("*\r\nQUIT\r\n"), "a challenge must be base64");
    assert_eq!(failure_kind(&harness.finish().0), Some(FailureKind::Protocol));

    let mut harness = Fixture::new(with_cleartext(client_config(&["a@x.test"])));
    harness.server_sends("220 mx\r\n");
    assert_eq!(harness.server_sends("250-mx\r\n250 AUTH LOGIN\r\n"), sends("AUTH LOGIN\r\n"));
    harness.server_sends("334 VXNlcm5hbWU6\r\n");
    harness.server_sends("334 UGFzc3dvcmQ6\r\n");
    assert_eq!(harness.server_sends("334 bW9yZQ==\r\n"), sends("*\r\nQUIT\r\n"));
    assert_eq!(failure_kind(&harness.finish().0), Some(FailureKind::Protocol));
}

#[test]
fn redaction_affects_events_but_no_decision() {
    for (password, reply, shown) in [
        (&b"STARTTLS-2026"[..], "no STARTTLS-2026", "no [hidden]"),
        (b"passw\xf6rd123", "no passw\u{fffd}rd123", "no [hidden]"),
    ] {
        let mut config =
            with_credentials(ClientConfig { security: Security::Starttls, ..client_config(&["a@x.test"]) });
        let secret = crate::mac::Secret::new(password.to_vec());
        config.credentials = config.credentials.map(|login| Credentials { secret, ..login });
        let mut harness = Fixture::new(config);
        harness.server_sends("220 mx\r\n");
        assert_eq!(harness.server_sends("250-mx\r\n250 STARTTLS\r\n"), sends("STARTTLS\r\n"));
        harness.server_sends(&format!("550 {reply}\r\n"));
        let (result, _) = harness.finish();
        assert!(result.failure.is_some_and(|error| error.message().contains(&format!("'550 {shown}'"))), "{reply}");
    }
}

#[test]
fn an_oversized_initial_response_is_sent_after_the_empty_challenge() {
    for mechanism in ["PLAIN", "XOAUTH2"] {
        let mut config = with_credentials(client_config(&["a@x.test"]));
        let secret = crate::mac::Secret::new(vec![b'x'; 600]);
        let requested = mechanism.parse().expect("a mechanism");
        config.credentials = config.credentials.map(|login| Credentials {
            secret,
            allow_cleartext: true,
            mechanism: Some(requested),
            ..login
        });
        let mut harness = Fixture::new(config);
        harness.server_sends("220 mx\r\n");
        assert_eq!(
            harness.server_sends(&format!("250-mx\r\n250 AUTH {mechanism}\r\n")),
            sends(&format!("AUTH {mechanism}\r\n"))
        );
        let mut wrong = Fixture::new(harness.client.config.clone());
        wrong.server_sends("220 mx\r\n");
        wrong.server_sends(&format!("250-mx\r\n250 AUTH {mechanism}\r\n"));
        assert_eq!(wrong.server_sends("334 !!!\r\n"), sends("*\r\nQUIT\r\n"), "an invalid challenge gets no password");
        let sent = format!("{:?}", harness.server_sends("334 \r\n"));
        assert!(sent.len() > 800 && sent.contains("eHh4eHh4"), "{sent}");
        assert_eq!(harness.server_sends("235 in\r\n"), sends("MAIL FROM:<me@x.test>\r\n"), "{mechanism}");
    }
}
