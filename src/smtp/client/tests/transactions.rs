//! Several transactions over one connection.

use std::time::Duration;

use super::{ClientAction, EHLO_REPLY, Fixture, client_config, sends};
use crate::protocol::{CloseReason, StreamProtocol as _};
use crate::smtp::client::config::{ClientConfig, DeliveryOutcome};

/// Session that has sent its first message.
fn after_first_message(config: ClientConfig) -> Fixture {
    let mut harness = Fixture::new(config);
    harness.server_sends("220 mx\r\n");
    harness.server_sends(EHLO_REPLY);
    harness.server_sends("250\r\n250\r\n");
    harness.server_sends("354 go\r\n");
    harness
}

#[test]
fn the_next_transaction_follows_the_reply_to_the_dot() {
    let mut harness = after_first_message(ClientConfig { transaction_count: 2, ..client_config(&["a@x.test"]) });
    let next = harness.server_sends("250 queued\r\n");
    assert!(
        matches!(&next[..], [ClientAction::Sent(both)] if both.starts_with("MAIL FROM") && both.contains("\r\nRCPT TO"))
    );
    harness.server_sends("250\r\n250\r\n");
    harness.server_sends("354 go\r\n");
    assert_eq!(harness.server_sends("552 5.3.4 too big\r\n"), sends("QUIT\r\n"));
    harness.server_sends("221 bye\r\n");
    let (result, _) = harness.finish();
    assert_eq!((result.is_transaction_finished, result.recipients[0].outcome), (true, Some(DeliveryOutcome::Rejected)));
    assert!(result.failure.is_some());
}

#[test]
fn an_unsolicited_reply_between_two_transactions_is_an_error() {
    let idle = || {
        let mut harness = after_first_message(ClientConfig {
            transaction_count: 2,
            min_interval: Duration::from_secs(1),
            ..client_config(&["a@x.test"])
        });
        assert_eq!(harness.server_sends("250 queued\r\n"), []);
        harness
    };
    let mut harness = idle();
    let due = harness.client.wake_at().expect("the next transaction is due");
    harness.now = due;
    harness.client.woken(due, &mut harness.actions);
    assert!(matches!(&harness.take_actions()[0], ClientAction::Sent(line) if line.starts_with("MAIL FROM")));

    assert_eq!(idle().server_sends("250 what?\r\n"), [ClientAction::Reset]);

    let mut harness = idle();
    harness.client.ended(&CloseReason::Finished, harness.now, &mut harness.actions);
    let (result, _) = harness.finish();
    assert!(result.is_transaction_finished && result.failure.is_none(), "the first message was accepted");
    assert_eq!(result.recipients[0].outcome, Some(DeliveryOutcome::Accepted));
}
