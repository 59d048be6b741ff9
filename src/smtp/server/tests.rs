//! Server sessions in memory: replies to each command, at every split of the input, and under each fault.

use super::{
    Accept, ClientInfo, FaultInjector, MemoryBudget, MessageSink, ReceivedMessage, ServerEvent, ServerReply,
    SessionConfig, SessionTimeouts, Users,
};
use crate::impair::Occurrences;
use crate::mac::Secret;
use crate::protocol::{Action, Actions, CloseReason, StreamProtocol};
use crate::smtp::server::fault::{Effect, FaultAction, FaultPoint, FaultRule, FaultRules};
use crate::time::Moment;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

mod faults;
mod limits;
mod login;
mod pair;

const START: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));
const TIMEOUTS: SessionTimeouts = SessionTimeouts {
    command: Duration::from_secs(300),
    body: Duration::from_secs(180),
    session: Duration::from_secs(3600),
};
const BANNER: &str = "220 mx.test ESMTP netlab mail-serve\r\n";
const MAIL: &str = "EHLO me\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n";

/// Sink that stores messages in memory, at once or as a job.
pub(in crate::smtp) struct TestSink {
    config: SessionConfig,
    faults: Arc<FaultRules>,
    is_deferred: bool,
    messages: RefCell<Vec<ReceivedMessage>>,
    /// Input that the server has not consumed yet.
    unread: RefCell<Vec<u8>>,
}

impl From<SessionConfig> for TestSink {
    fn from(config: SessionConfig) -> Self {
        Self {
            config,
            faults: Arc::default(),
            is_deferred: false,
            messages: RefCell::default(),
            unread: RefCell::default(),
        }
    }
}

impl MessageSink for TestSink {
    type Stored = usize;

    fn config(&self) -> &SessionConfig {
        &self.config
    }

    fn accept(&self, message: ReceivedMessage) -> Accept<usize> {
        let length = message.message.len();
        self.messages.borrow_mut().push(message);
        if self.is_deferred { Accept::Later(Box::new(move || Ok(length))) } else { Accept::Now(Ok(length)) }
    }

    fn nonce(&self) -> String {
        "snonce".to_owned()
    }
}

fn config() -> SessionConfig {
    SessionConfig {
        name: "mx.test".into(),
        max_size: 1_000,
        max_recipients: 3,
        offers_starttls: true,
        users: None,
        allows_plaintext_auth: false,
        timeouts: TIMEOUTS,
        memory_budget: Arc::new(MemoryBudget::new(10_000)),
    }
}

fn with_users() -> SessionConfig {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let users = Users::new([("tim".to_owned(), secret("tea"))], secret("pepper"));
    SessionConfig { users: Some(Arc::new(users)), ..config() }
}

fn with_faults(faults: &[(FaultPoint, &str, FaultAction)]) -> TestSink {
    let rule = |(point, occurrences, action): &(FaultPoint, &str, FaultAction)| FaultRule {
        text: String::new(),
        point: *point,
        pattern: None,
        occurrences: occurrences.parse::<Occurrences>().expect("occurrences"),
        action: action.clone(),
    };
    TestSink { faults: Arc::new(FaultRules::new(1, faults.iter().map(rule).collect())), ..config().into() }
}

fn effect(effect: Effect) -> FaultAction {
    FaultAction { effect, ..FaultAction::default() }
}

/// Session of a server with the default configuration.
pub(in crate::smtp) fn session() -> FaultInjector<TestSink> {
    FaultInjector::new(Rc::new(config().into()), Arc::default(), ClientInfo::default(), START)
}

struct Fixture {
    server: FaultInjector<TestSink>,
    sink: Rc<TestSink>,
    actions: Actions<ServerEvent<usize>>,
    now: Moment,
    events: Vec<String>,
}

impl Fixture {
    fn new(sink: impl Into<TestSink>) -> Self {
        let sink = Rc::new(sink.into());
        let client = ClientInfo { session: 1, ..ClientInfo::default() };
        let server = FaultInjector::new(Rc::clone(&sink), Arc::clone(&sink.faults), client, START);
        Self { server, sink, actions: Actions::default(), now: START, events: Vec::new() }
    }

    /// Returns a harness that has received the banner.
    fn greeted(sink: impl Into<TestSink>) -> Self {
        let mut harness = Self::new(sink);
        assert_eq!(harness.connect(None), BANNER);
        harness
    }

    fn connect(&mut self, tls: Option<&'static str>) -> String {
        self.server.opened(tls, self.now, &mut self.actions);
        self.take_output()
    }

    /// Returns the server's output and actions since the last call, and records its events.
    fn take_output(&mut self) -> String {
        self.events.extend(self.actions.events().map(|event| match event {
            ServerEvent::Accepted(length, _) => format!("accepted {length}"),
            ServerEvent::Rejected(rejected) => format!("rejected {} with {}", rejected.command, rejected.reply.code),
            ServerEvent::Login { user, succeeded, .. } => format!("login {user} {succeeded}"),
            ServerEvent::Fault { rule_index, ordinal, .. } => format!("fault {rule_index} {ordinal}"),
            ServerEvent::Violation { what, .. } => what.clone(),
            ServerEvent::Waiting { report, .. } => report.to_string(),
            ServerEvent::Failed { reason, .. } => format!("failed: {reason}"),
        }));
        let (steps, bytes) = self.actions.queued();
        let (mut at, mut output) = (0, String::new());
        for step in steps.drain(..) {
            match step {
                Action::Bytes(length) => {
                    output.push_str(&String::from_utf8_lossy(&bytes[at..at + length]));
                    at += length;
                }
                Action::StartTls => output.push_str("<tls>"),
                Action::Close => output.push_str("<close>"),
                Action::Reset => output.push_str("<reset>"),
                Action::File { .. } => unreachable!("no files"),
            }
        }
        bytes.clear();
        output
    }

    /// Sends the text at once, as the client; returns the server's output and actions.
    fn send(&mut self, text: impl AsRef<[u8]>) -> String {
        let mut rest = text.as_ref();
        let mut output = String::new();
        while !rest.is_empty() && !self.server.is_paused() {
            let consumed = self.server.received(rest, self.now, &mut self.actions);
            rest = &rest[consumed..];
            output += &self.take_output();
            while let Some(job) = self.actions.take_job() {
                job();
                self.server.job_done(self.now, &mut self.actions);
                output += &self.take_output();
            }
            if consumed == 0 {
                break;
            }
        }
        self.server.sent(self.now, &mut self.actions);
        output + &self.take_output()
    }

    /// Advances the clock and fires the timer if it is due; returns the server's output and actions.
    fn advance_time(&mut self, time: Duration) -> String {
        self.now = self.now + time;
        if self.server.wake_at().is_some_and(|at| at <= self.now) {
            self.server.woken(self.now, &mut self.actions);
        }
        self.take_output()
    }
}

fn codes(output: &str) -> Vec<&str> {
    output.lines().filter(|line| line.get(3..4) != Some("-")).map(|line| line.get(..3).unwrap_or(line)).collect()
}

#[test]
fn a_message_is_received_intact_at_every_split() {
    let input = format!("{MAIL}DATA\r\nSubject: hi\r\n\r\n..dot\r\na\n.\nb\r\n.\r\nQUIT\r\n");
    for size in 1..input.len() {
        for is_deferred in [false, true] {
            let mut harness = Fixture::new(TestSink { is_deferred, ..config().into() });
            harness.connect(None);
            let mut output = String::new();
            let mut rest = Vec::new();
            for piece in input.as_bytes().chunks(size) {
                rest.extend_from_slice(piece);
                loop {
                    let consumed = harness.server.received(&rest, harness.now, &mut harness.actions);
                    rest.drain(..consumed);
                    output += &harness.take_output();
                    if let Some(job) = harness.actions.take_job() {
                        assert!(harness.server.is_paused());
                        job();
                        harness.server.job_done(harness.now, &mut harness.actions);
                        output += &harness.take_output();
                    } else if consumed == 0 || rest.is_empty() {
                        break;
                    }
                }
                harness.server.sent(harness.now, &mut harness.actions);
                output += &harness.take_output();
            }
            let replies = output.replace("<close>", "");
            assert_eq!(codes(&replies), ["250", "250", "250", "354", "250", "221"], "{size}: {output}");
            let messages = harness.sink.messages.borrow();
            let got: Vec<&[u8]> = messages.iter().map(|message| message.message.as_slice()).collect();
            assert_eq!(got, [b"Subject: hi\r\n\r\n.dot\r\na\n.\nb\r\n"], "{size}");
            assert_eq!(messages[0].sender.address(), "a@x.test");
            assert_eq!(messages[0].recipients[0].address, "b@x.test");
            // In large pieces the message comes together with DATA, and commands with EHLO.
            let is_early = |event: &&String| event.contains("sent before the reply to");
            assert_eq!(harness.events.iter().filter(|event| !is_early(event)).collect::<Vec<_>>(), ["accepted 28"]);
            assert_eq!(harness.events.iter().any(|event| is_early(&event)), harness.events.len() > 1);
        }
    }
}

#[test]
fn commands_out_of_order_are_rejected() {
    for (input, expected) in [
        ("MAIL FROM:<a@x>\r\n", vec!["503"]),
        ("EHLO me\r\nRCPT TO:<a@x>\r\n", vec!["250", "503"]),
        ("EHLO me\r\nMAIL FROM:<a@x>\r\nMAIL FROM:<a@x>\r\n", vec!["250", "250", "503"]),
        ("EHLO me\r\nMAIL FROM:<>\r\nDATA\r\n", vec!["250", "250", "503"]),
        ("EHLO me\r\nMAIL FROM:<>\r\nRSET\r\nRCPT TO:<a@x>\r\n", vec!["250", "250", "250", "503"]),
        ("EHLO me\r\nMAIL FROM:<>\r\nEHLO me\r\nRCPT TO:<a@x>\r\n", vec!["250", "250", "250", "503"]),
        ("HELO me\r\nMAIL FROM:<a@x> SIZE=1\r\n", vec!["250", "555"]),
        ("EHLO me\r\nMAIL FROM:<a@x> SIZE=1001\r\n", vec!["250", "552"]),
        ("NOOP\r\nVRFY x\r\nHELP\r\nEXPN x\r\nnoop x\r\n", vec!["250", "252", "214", "500", "250"]),
        ("EHLO\r\nDATA x\r\nMAIL a@x\r\n", vec!["501", "501", "501"]),
        ("\r\n", vec!["500"]),
        ("NOOP\n", vec!["500"]),
        ("NO\rOP\r\n", vec!["500"]),
        ("NO\0OP\r\n", vec!["500"]),
        ("GET / HTTP/1.1\r\nHost: x\r\n", vec!["421", "<cl"]),
        ("POST /\tx\nNOOP\r\n", vec!["421", "<cl"]),
        ("EHLO me\r\nBDAT +6\r\nRSET\r\n", vec!["250", "501", "<cl"]),
        ("HELO me\r\nBDAT 6  LAST\r\nRSET\r\nNOOP\r\n", vec!["250", "502", "250"]),
    ] {
        assert_eq!(codes(&Fixture::greeted(config()).send(input)), expected, "{input:?}");
    }
    assert_eq!(codes(&Fixture::greeted(config()).send(b"N\xffOP\r\n")), ["500"]);
}

#[test]
fn the_ehlo_reply_lists_each_extension_once() {
    let output = Fixture::greeted(config()).send("EHLO me\r\n");
    let extensions = "250-SIZE 1000|250-8BITMIME|250-SMTPUTF8|250-PIPELINING|250-CHUNKING|250-DSN|\
                 250-ENHANCEDSTATUSCODES|250-STARTTLS|250 HELP";
    let expected = format!("250-mx.test greets me\r\n{}\r\n", extensions.replace('|', "\r\n"));
    assert_eq!(output, expected);
    assert_eq!(Fixture::greeted(config()).send("HELO me\r\n"), "250 mx.test greets me\r\n");
}

#[test]
fn chunks_are_accepted_and_rejected_with_their_content() {
    let mut harness = Fixture::greeted(config());
    let output = harness.send(format!("{MAIL}BDAT 4\r\n.\r\n\nBDAT 0\r\nBDAT 3 LAST\r\n.\r\nNOOP\r\n"));
    assert_eq!(codes(&output), ["250", "250", "250", "250", "250", "250", "250"]);
    assert_eq!(harness.sink.messages.borrow()[0].message, b".\r\n\n.\r\n");
    assert!(harness.sink.messages.borrow()[0].is_chunked);
    // The content of a rejected chunk is discarded: QUIT is content here.
    let mut harness = Fixture::greeted(config());
    assert_eq!(codes(&harness.send("EHLO me\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n")), ["250", "503", "250"]);
    assert_eq!(codes(&harness.send("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")), ["503", "250"]);
    assert_eq!(codes(&harness.send("MAIL FROM:<>\r\nRCPT TO:<a@x>\r\nBDAT 1 LAST\r\nx")), ["250", "250", "250"]);
    let mut harness = Fixture::greeted(config());
    let output = harness.send(format!("{MAIL}BDAT 2\r\nxxDATA\r\nRCPT TO:<c@x>\r\nRSET\r\nMAIL FROM:<>\r\n"));
    assert_eq!(codes(&output)[3..], ["250", "503", "503", "250", "250"]);
}

#[test]
fn cleartext_after_starttls_is_rejected() {
    let mut harness = Fixture::greeted(config());
    assert_eq!(harness.send("STARTTLS\r\n"), "220 2.0.0 ready to start TLS\r\n<tls>");
    assert_eq!(harness.connect(Some("1.3")), "");
    assert!(!harness.send("EHLO me\r\n").contains("STARTTLS"));
    assert_eq!(codes(&harness.send("STARTTLS\r\n")), ["503"]);
    for input in ["STARTTLS\r\nEHLO evil\r\n", "STARTTLS\r\nE"] {
        let output = Fixture::greeted(config()).send(input);
        assert!(output.starts_with("421 4.7.0") && output.ends_with("<close>"), "{output}");
    }
    let mut harness = Fixture::greeted(config());
    harness.send(format!("{MAIL}STARTTLS\r\n"));
    harness.connect(Some("1.2"));
    assert_eq!(codes(&harness.send("RCPT TO:<a@x>\r\nMAIL FROM:<a@x>\r\n")), ["503", "503"], "the session is reset");
    assert_eq!(
        codes(&Fixture::greeted(SessionConfig { offers_starttls: false, ..config() }).send("STARTTLS\r\n")),
        ["502"]
    );
}

#[test]
fn a_connection_that_closes_during_a_transaction_is_reported() {
    let transaction = "failed: client closed the connection during the transaction";
    let line = "failed: client closed the connection within a line: CR LF is missing (RFC 5321 §2.3.8)";
    let dot = "failed: client closed the connection within the message: CR LF . CR LF (RFC 5321 §4.1.1.4) is missing";
    for (input, event) in [
        (&["EHLO me\r\n"][..], None),
        (&["EHLO me\r\n", &MAIL[9..]], Some(transaction)),
        (&["EHLO me"], Some(line)),
        (&["EHLO me\r\n", &MAIL[9..], "DATA\r\n", "hi\r\n.\n"], Some(dot)),
    ] {
        let mut harness = Fixture::greeted(config());
        input.iter().for_each(|piece| drop(harness.send(piece)));
        harness.server.ended(&CloseReason::Finished, harness.now, &mut harness.actions);
        assert_eq!(harness.take_output(), "<close>");
        assert_eq!(harness.events.iter().map(String::as_str).collect::<Vec<_>>(), Vec::from_iter(event));
    }
}

#[test]
fn tolerated_mistakes_of_a_client_are_reported() {
    let spaces = "'MAIL FROM: <a@x.test>': space after the colon is not allowed (RFC 5321 §3.3)";
    for (input, event) in [
        ("EHLO me\r\nNOOP\r\n", "commands were sent before the reply to EHLO (RFC 2920 §3.1)"),
        ("MAIL FROM: <a@x.test>\r\n", spaces),
        (
            "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test> \r\n",
            "'RCPT TO:<b@x.test> ': trailing space before CR LF (RFC 5321 §4.1.1)",
        ),
    ] {
        let mut harness = Fixture::greeted(config());
        if !input.starts_with("EHLO") {
            harness.send("EHLO me\r\n");
        }
        harness.send(input);
        assert_eq!(harness.events, [event], "{input}");
    }
}

#[test]
fn a_message_that_cannot_be_stored_is_not_acknowledged() {
    struct FailingSink(SessionConfig);
    impl MessageSink for FailingSink {
        type Stored = ();

        fn config(&self) -> &SessionConfig {
            &self.0
        }

        fn accept(&self, _: ReceivedMessage) -> Accept<()> {
            Accept::Later(Box::new(|| panic!("the disk is gone")))
        }

        fn nonce(&self) -> String {
            String::new()
        }
    }
    let mut actions = Actions::default();
    let mut server = FaultInjector::new(Rc::new(FailingSink(config())), Arc::default(), ClientInfo::default(), START);
    server.opened(None, START, &mut actions);
    server.received(format!("{MAIL}DATA\r\n.\r\n").as_bytes(), START, &mut actions);
    actions.queued().1.clear();
    // The worker has caught the job's panic, so there is no result.
    drop(actions.take_job());
    server.job_done(START, &mut actions);
    assert!(actions.queued().1.starts_with(b"452 4.3.1"));
    assert_eq!(super::INSUFFICIENT_STORAGE, ServerReply::new(452, "4.3.1 insufficient storage, try again later"));
}
