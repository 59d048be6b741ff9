//! Logging in.

use super::{Harness, client_config, failure_exit, sends, with_credentials};
use crate::exit::Exit;
use crate::smtp::client::config::{ClientConfig, Credentials, Security};

#[test]
fn h10_and_h18_logins_in_small_letters_and_endless_challenges() {
    let safe = |plan: ClientConfig| {
        let mut plan = with_credentials(plan);
        plan.credentials = plan.credentials.map(|login| Credentials { allow_cleartext: true, ..login });
        plan
    };
    let mut bench = Harness::new(safe(client_config(&["a@x.test"])));
    bench.server_sends("220 mx\r\n");
    assert_eq!(bench.server_sends("250-mx\r\n250 auth plain\r\n"), sends("AUTH PLAIN AHRpbQBzZXNhbWU=\r\n"));
    assert_eq!(bench.server_sends("235 2.7.0 in\r\n"), sends("MAIL FROM:<me@x.test>\r\n"));
    let (_, shown) = bench.finish();
    assert!(shown.contains(&"AUTH PLAIN [hidden]".to_owned()) && !shown.concat().contains("AHRpbQ"), "{shown:?}");

    let mut bench = Harness::new(safe(client_config(&["a@x.test"])));
    bench.server_sends("220 mx\r\n");
    bench.server_sends("250-mx\r\n250 AUTH LOGIN\r\n");
    assert_eq!(bench.server_sends("334 !!!\r\n"), sends("*\r\nQUIT\r\n"), "what is no base64 is no challenge");
    assert_eq!(failure_exit(&bench.finish().0), Some(Exit::Protocol));

    let mut bench = Harness::new(safe(client_config(&["a@x.test"])));
    bench.server_sends("220 mx\r\n");
    assert_eq!(bench.server_sends("250-mx\r\n250 AUTH LOGIN\r\n"), sends("AUTH LOGIN\r\n"));
    bench.server_sends("334 VXNlcm5hbWU6\r\n");
    bench.server_sends("334 UGFzc3dvcmQ6\r\n");
    assert_eq!(bench.server_sends("334 bW9yZQ==\r\n"), sends("*\r\nQUIT\r\n"));
    assert_eq!(failure_exit(&bench.finish().0), Some(Exit::Protocol));
}

#[test]
fn a_known_provider_that_refuses_a_login_is_explained() {
    for (server, code, says) in [
        ("smtp.gmail.com", "534 5.7.9", "app password"),
        ("smtp.office365.com", "535 5.7.139", "XOAUTH2"),
        ("mx.test", "535 5.7.8", "check user"),
    ] {
        let plan = with_credentials(ClientConfig {
            security: Security::Tls,
            server_name: server.into(),
            ..client_config(&["a@x.test"])
        });
        let mut bench = Harness::new(plan);
        bench.server_sends("220 mx\r\n");
        bench.server_sends("250-mx\r\n250 AUTH PLAIN\r\n");
        bench.server_sends(&format!("{code} no\r\n"));
        let (done, _) = bench.finish();
        let error = done.failure.expect("a failure");
        assert_eq!(error.exit(), Exit::Permission);
        assert!(error.advice().is_some_and(|advice| advice.contains(says)), "{server}: {error:?}");
    }
}

#[test]
fn a_password_hides_what_is_shown_and_nothing_that_is_decided_on() {
    for (password, reply, shown) in [
        (&b"STARTTLS-2026"[..], "no STARTTLS-2026", "no [hidden]"),
        (b"passw\xf6rd123", "no passw\u{fffd}rd123", "no [hidden]"),
    ] {
        let mut plan = with_credentials(ClientConfig { security: Security::Starttls, ..client_config(&["a@x.test"]) });
        let secret = crate::mac::Secret::new(password.to_vec());
        plan.credentials = plan.credentials.map(|login| Credentials { secret, ..login });
        let mut bench = Harness::new(plan);
        bench.server_sends("220 mx\r\n");
        assert_eq!(bench.server_sends("250-mx\r\n250 STARTTLS\r\n"), sends("STARTTLS\r\n"));
        bench.server_sends(&format!("550 {reply}\r\n"));
        let (done, _) = bench.finish();
        assert!(done.failure.is_some_and(|error| error.message().ends_with(shown)), "{reply}");
    }
}

#[test]
fn a_response_that_does_not_fit_into_the_command_answers_the_empty_challenge() {
    for mechanism in ["PLAIN", "XOAUTH2"] {
        let mut plan = with_credentials(client_config(&["a@x.test"]));
        let secret = crate::mac::Secret::new(vec![b'x'; 600]);
        let mechanism_of = mechanism.parse().expect("a mechanism");
        plan.credentials = plan.credentials.map(|login| Credentials {
            secret,
            allow_cleartext: true,
            mechanism: Some(mechanism_of),
            ..login
        });
        let mut bench = Harness::new(plan);
        bench.server_sends("220 mx\r\n");
        assert_eq!(
            bench.server_sends(&format!("250-mx\r\n250 AUTH {mechanism}\r\n")),
            sends(&format!("AUTH {mechanism}\r\n"))
        );
        let mut wrong = Harness::new(bench.client.config.clone());
        wrong.server_sends("220 mx\r\n");
        wrong.server_sends(&format!("250-mx\r\n250 AUTH {mechanism}\r\n"));
        assert_eq!(wrong.server_sends("334 !!!\r\n"), sends("*\r\nQUIT\r\n"), "what is no challenge gets no password");
        let did = format!("{:?}", bench.server_sends("334 \r\n"));
        assert!(did.len() > 800 && did.contains("eHh4eHh4"), "{did}");
        assert_eq!(bench.server_sends("235 in\r\n"), sends("MAIL FROM:<me@x.test>\r\n"), "{mechanism}");
    }
}
