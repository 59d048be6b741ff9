//! The server's dialogue in memory: what each command gets, at every split, and under each fault.

use super::{
    Accept, ClientInfo, MemoryBudget, MessageSink, ReceivedMessage, ServerEvent, ServerReply, ServerSession,
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

/// A room that keeps everything in memory, at once or as a job.
struct TestSink {
    config: SessionConfig,
    is_deferred: bool,
    messages: RefCell<Vec<ReceivedMessage>>,
    /// What the server did not take yet.
    unread: RefCell<Vec<u8>>,
}

impl TestSink {
    fn new(rules: SessionConfig) -> Self {
        Self { config: rules, is_deferred: false, messages: RefCell::default(), unread: RefCell::default() }
    }
}

impl MessageSink for TestSink {
    type Stored = usize;

    fn config(&self) -> &SessionConfig {
        &self.config
    }

    fn accept(&self, captured: ReceivedMessage) -> Accept<usize> {
        let length = captured.message.len();
        self.messages.borrow_mut().push(captured);
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
        faults: Arc::default(),
        memory_budget: Arc::new(MemoryBudget::new(10_000)),
    }
}

fn with_users() -> SessionConfig {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let users = Users::new([("tim".to_owned(), secret("tea"))], secret("pepper"));
    SessionConfig { users: Some(Arc::new(users)), ..config() }
}

fn with_faults(all: &[(FaultPoint, &str, FaultAction)]) -> SessionConfig {
    let rule = |(place, occasions, action): &(FaultPoint, &str, FaultAction)| FaultRule {
        text: String::new(),
        point: *place,
        pattern: None,
        occurrences: occasions.parse::<Occurrences>().expect("occasions"),
        action: action.clone(),
    };
    SessionConfig { faults: Arc::new(FaultRules::new(1, all.iter().map(rule).collect())), ..config() }
}

fn effect(instead: Effect) -> FaultAction {
    FaultAction { effect: instead, ..FaultAction::default() }
}

struct Harness {
    server: ServerSession<TestSink>,
    sink: Rc<TestSink>,
    actions: Actions<ServerEvent<usize>>,
    now: Moment,
    events: Vec<String>,
}

impl Harness {
    fn new(config: SessionConfig) -> Self {
        Self::with_sink(TestSink::new(config))
    }

    fn with_sink(sink: TestSink) -> Self {
        let room = Rc::new(sink);
        let server = ServerSession::new(Rc::clone(&room), ClientInfo { session: 1, ..ClientInfo::default() }, START);
        Self { server, sink: room, actions: Actions::default(), now: START, events: Vec::new() }
    }

    /// A bench that has been greeted.
    fn greeted(config: SessionConfig) -> Self {
        let mut bench = Self::new(config);
        assert_eq!(bench.connect(None), BANNER);
        bench
    }

    fn connect(&mut self, tls: Option<&'static str>) -> String {
        self.server.opened(tls, self.now, &mut self.actions);
        self.take_output()
    }

    /// What it said and did since it was last asked.
    fn take_output(&mut self) -> String {
        self.events.extend(self.actions.events().map(|fact| match fact {
            ServerEvent::Accepted(length, _) => format!("taken {length}"),
            ServerEvent::Rejected(refused) => format!("refused {} by {}", refused.command, refused.reply.code),
            ServerEvent::Login { user, succeeded: ok, .. } => format!("login {user} {ok}"),
            ServerEvent::Fault { rule_index: rule, ordinal: number, .. } => format!("fault {rule} {number}"),
            ServerEvent::Failed { reason: why, .. } => format!("failed: {why}"),
        }));
        let (steps, bytes) = self.actions.queued();
        let (mut at, mut did) = (0, String::new());
        for step in steps.drain(..) {
            match step {
                Action::Bytes(length) => {
                    did.push_str(&String::from_utf8_lossy(&bytes[at..at + length]));
                    at += length;
                }
                Action::StartTls => did.push_str("<tls>"),
                Action::Close => did.push_str("<close>"),
                Action::Reset => did.push_str("<reset>"),
                Action::File { .. } => unreachable!("no files"),
            }
        }
        bytes.clear();
        did
    }

    /// The client says this in one breath; what the server did.
    fn send(&mut self, text: impl AsRef<[u8]>) -> String {
        let mut rest = text.as_ref();
        let mut did = String::new();
        while !rest.is_empty() && !self.server.is_paused() {
            let taken = self.server.received(rest, self.now, &mut self.actions);
            rest = &rest[taken..];
            did += &self.take_output();
            while let Some(job) = self.actions.take_job() {
                job();
                self.server.job_done(self.now, &mut self.actions);
                did += &self.take_output();
            }
            if taken == 0 {
                break;
            }
        }
        self.server.sent(self.now, &mut self.actions);
        did + &self.take_output()
    }

    /// Time passes; what the server did at its next alarm, if that comes.
    fn advance_time(&mut self, time: Duration) -> String {
        self.now = self.now + time;
        if self.server.wake_at().is_some_and(|at| at <= self.now) {
            self.server.woken(self.now, &mut self.actions);
        }
        self.take_output()
    }
}

fn codes(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.get(3..4) != Some("-")).map(|line| line.get(..3).unwrap_or(line)).collect()
}

#[test]
fn a_mail_is_taken_whole_at_every_split() {
    let said = format!("{MAIL}DATA\r\nSubject: hi\r\n\r\n..dot\r\na\n.\nb\r\n.\r\nQUIT\r\n");
    for size in 1..said.len() {
        for is_slow in [false, true] {
            let mut bench = Harness::with_sink(TestSink { is_deferred: is_slow, ..TestSink::new(config()) });
            bench.connect(None);
            let mut did = String::new();
            let mut rest = Vec::new();
            for piece in said.as_bytes().chunks(size) {
                rest.extend_from_slice(piece);
                loop {
                    let taken = bench.server.received(&rest, bench.now, &mut bench.actions);
                    rest.drain(..taken);
                    did += &bench.take_output();
                    if let Some(job) = bench.actions.take_job() {
                        assert!(bench.server.is_paused());
                        job();
                        bench.server.job_done(bench.now, &mut bench.actions);
                        did += &bench.take_output();
                    } else if taken == 0 || rest.is_empty() {
                        break;
                    }
                }
                bench.server.sent(bench.now, &mut bench.actions);
                did += &bench.take_output();
            }
            assert_eq!(codes(&did.replace("<close>", "")), ["250", "250", "250", "354", "250", "221"], "{size}: {did}");
            let mails = bench.sink.messages.borrow();
            let got: Vec<&[u8]> = mails.iter().map(|mail| mail.message.as_slice()).collect();
            assert_eq!(got, [b"Subject: hi\r\n\r\n.dot\r\na\n.\nb\r\n"], "{size}");
            assert_eq!((mails[0].sender.address(), mails[0].recipients[0].address.as_str()), ("a@x.test", "b@x.test"));
            assert_eq!(bench.events, ["taken 28"]);
        }
    }
}

#[test]
fn commands_come_in_their_order() {
    for (said, expected) in [
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
        assert_eq!(codes(&Harness::greeted(config()).send(said)), expected, "{said:?}");
    }
    assert_eq!(codes(&Harness::greeted(config()).send(b"N\xffOP\r\n")), ["500"]);
}

#[test]
fn the_words_of_ehlo_are_said_once_each() {
    let did = Harness::greeted(config()).send("EHLO me\r\n");
    let words = "250-SIZE 1000|250-8BITMIME|250-SMTPUTF8|250-PIPELINING|250-CHUNKING|250-DSN|\
                 250-ENHANCEDSTATUSCODES|250-STARTTLS|250 HELP";
    let expected = format!("250-mx.test greets me\r\n{}\r\n", words.replace('|', "\r\n"));
    assert_eq!(did, expected);
    assert_eq!(Harness::greeted(config()).send("HELO me\r\n"), "250 mx.test greets me\r\n");
}

#[test]
fn chunks_are_taken_and_refused_with_their_octets() {
    let mut bench = Harness::greeted(config());
    let did = bench.send(format!("{MAIL}BDAT 4\r\n.\r\n\nBDAT 0\r\nBDAT 3 LAST\r\n.\r\nNOOP\r\n"));
    assert_eq!(codes(&did), ["250", "250", "250", "250", "250", "250", "250"]);
    assert_eq!(bench.sink.messages.borrow()[0].message, b".\r\n\n.\r\n");
    assert!(bench.sink.messages.borrow()[0].is_chunked);
    // What is refused is swallowed: QUIT here is content.
    let mut bench = Harness::greeted(config());
    assert_eq!(codes(&bench.send("EHLO me\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n")), ["250", "503", "250"]);
    assert_eq!(codes(&bench.send("MAIL FROM:<>\r\nRCPT TO:<a@x>\r\nBDAT 1 LAST\r\nx")), ["250", "250", "250"]);
    let mut bench = Harness::greeted(config());
    let did = bench.send(format!("{MAIL}BDAT 2\r\nxxDATA\r\nRCPT TO:<c@x>\r\nRSET\r\nMAIL FROM:<>\r\n"));
    assert_eq!(codes(&did)[3..], ["250", "503", "503", "250", "250"]);
}

#[test]
fn what_came_in_clear_behind_starttls_is_not_believed() {
    let mut bench = Harness::greeted(config());
    assert_eq!(bench.send("STARTTLS\r\n"), "220 2.0.0 begin TLS\r\n<tls>");
    assert_eq!(bench.connect(Some("1.3")), "");
    assert!(!bench.send("EHLO me\r\n").contains("STARTTLS"));
    assert_eq!(codes(&bench.send("STARTTLS\r\n")), ["503"]);
    for glued in ["STARTTLS\r\nEHLO evil\r\n", "STARTTLS\r\nE"] {
        let did = Harness::greeted(config()).send(glued);
        assert!(did.starts_with("421 4.7.0") && did.ends_with("<close>"), "{did}");
    }
    let mut bench = Harness::greeted(config());
    bench.send(format!("{MAIL}STARTTLS\r\n"));
    bench.connect(Some("1.2"));
    assert_eq!(codes(&bench.send("RCPT TO:<a@x>\r\nMAIL FROM:<a@x>\r\n")), ["503", "503"], "all is forgotten");
    assert_eq!(
        codes(&Harness::greeted(SessionConfig { offers_starttls: false, ..config() }).send("STARTTLS\r\n")),
        ["502"]
    );
}

#[test]
fn a_line_that_breaks_within_a_mail_is_told() {
    for (said, is_told) in [("EHLO me\r\n", false), (MAIL, true)] {
        let mut bench = Harness::greeted(config());
        bench.send(said);
        bench.server.ended(&CloseReason::Finished, bench.now, &mut bench.actions);
        assert_eq!((bench.take_output().as_str(), bench.events.is_empty()), ("<close>", !is_told));
    }
}

#[test]
fn a_mail_that_cannot_be_kept_is_not_acknowledged() {
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
    let mut out = Actions::default();
    let mut server = ServerSession::new(Rc::new(FailingSink(config())), ClientInfo::default(), START);
    server.opened(None, START, &mut out);
    server.received(format!("{MAIL}DATA\r\n.\r\n").as_bytes(), START, &mut out);
    out.queued().1.clear();
    // Whoever runs the job has caught the panic; nothing came of it.
    drop(out.take_job());
    server.job_done(START, &mut out);
    assert!(out.queued().1.starts_with(b"452 4.3.1"));
    assert_eq!(super::INSUFFICIENT_STORAGE, ServerReply::new(452, "4.3.1 no room for more messages at the moment"));
}
