//! Several mails over one connection.

use std::time::Duration;

use super::{ClientAction, EHLO_REPLY, Harness, client_config, sends};
use crate::protocol::{CloseReason, StreamProtocol as _};
use crate::smtp::client::config::{ClientConfig, DeliveryOutcome};

/// A dialogue that has sent its first mail.
fn after_first_message(config: ClientConfig) -> Harness {
    let mut bench = Harness::new(config);
    bench.server_sends("220 mx\r\n");
    bench.server_sends(EHLO_REPLY);
    bench.server_sends("250\r\n250\r\n");
    bench.server_sends("354 go\r\n");
    bench
}

#[test]
fn the_next_mail_follows_the_answer_to_the_dot() {
    let mut bench = after_first_message(ClientConfig { transaction_count: 2, ..client_config(&["a@x.test"]) });
    let next = bench.server_sends("250 queued\r\n");
    assert!(
        matches!(&next[..], [ClientAction::Sent(both)] if both.starts_with("MAIL FROM") && both.contains("\r\nRCPT TO"))
    );
    bench.server_sends("250\r\n250\r\n");
    bench.server_sends("354 go\r\n");
    assert_eq!(bench.server_sends("552 5.3.4 too big\r\n"), sends("QUIT\r\n"));
    bench.server_sends("221 bye\r\n");
    let (done, _) = bench.finish();
    assert_eq!((done.is_transaction_finished, done.recipients[0].outcome), (true, Some(DeliveryOutcome::Refused)));
    assert!(done.failure.is_some());
}

#[test]
fn between_two_mails_it_waits_and_bears_no_surprise() {
    let idle = || {
        let mut bench = after_first_message(ClientConfig {
            transaction_count: 2,
            min_interval: Duration::from_secs(1),
            ..client_config(&["a@x.test"])
        });
        assert_eq!(bench.server_sends("250 queued\r\n"), []);
        bench
    };
    let mut bench = idle();
    let due = bench.client.wake_at().expect("the next mail is due");
    bench.now = due;
    bench.client.woken(due, &mut bench.actions);
    assert!(matches!(&bench.take_actions()[0], ClientAction::Sent(mail) if mail.starts_with("MAIL FROM")));

    assert_eq!(idle().server_sends("250 what?\r\n"), [ClientAction::Reset]);

    let mut bench = idle();
    bench.client.ended(&CloseReason::Finished, bench.now, &mut bench.actions);
    let (done, _) = bench.finish();
    assert!(done.is_transaction_finished && done.failure.is_none(), "the mail before was taken");
    assert_eq!(done.recipients[0].outcome, Some(DeliveryOutcome::Accepted));
}
