//! Several mails over one connection.

use std::time::Duration;

use super::{Bench, Did, OFFERS, plan, said};
use crate::conversation::{CloseReason, StreamProtocol as _};
use crate::smtp::plan::{Outcome, Plan};

/// A dialogue that has sent its first mail.
fn sent(plan: Plan) -> Bench {
    let mut bench = Bench::new(plan);
    bench.hear("220 mx\r\n");
    bench.hear(OFFERS);
    bench.hear("250\r\n250\r\n");
    bench.hear("354 go\r\n");
    bench
}

#[test]
fn the_next_mail_follows_the_answer_to_the_dot() {
    let mut bench = sent(Plan { mails: 2, ..plan(&["a@x.test"]) });
    let next = bench.hear("250 queued\r\n");
    assert!(matches!(&next[..], [Did::Said(both)] if both.starts_with("MAIL FROM") && both.contains("\r\nRCPT TO")));
    bench.hear("250\r\n250\r\n");
    bench.hear("354 go\r\n");
    assert_eq!(bench.hear("552 5.3.4 too big\r\n"), said("QUIT\r\n"));
    bench.hear("221 bye\r\n");
    let (done, _) = bench.done();
    assert_eq!((done.is_mailed, done.recipients[0].outcome), (true, Some(Outcome::Refused)));
    assert!(done.failure.is_some());
}

#[test]
fn between_two_mails_it_waits_and_bears_no_surprise() {
    let idle = || {
        let mut bench = sent(Plan { mails: 2, apart: Duration::from_secs(1), ..plan(&["a@x.test"]) });
        assert_eq!(bench.hear("250 queued\r\n"), []);
        bench
    };
    let mut bench = idle();
    let due = bench.client.wake_at().expect("the next mail is due");
    bench.now = due;
    bench.client.woken(due, &mut bench.out);
    assert!(matches!(&bench.did()[0], Did::Said(mail) if mail.starts_with("MAIL FROM")));

    assert_eq!(idle().hear("250 what?\r\n"), [Did::Reset]);

    let mut bench = idle();
    bench.client.ended(&CloseReason::Finished, bench.now, &mut bench.out);
    let (done, _) = bench.done();
    assert!(done.is_mailed && done.failure.is_none(), "the mail before was taken");
    assert_eq!(done.recipients[0].outcome, Some(Outcome::Accepted));
}
