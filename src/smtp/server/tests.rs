//! The server's dialogue in memory: what each command gets, at every split, and under each fault.

use super::{Allowance, Answer, Captured, Client, Fact, Keep, Limits, Mailroom, Rules, Server, Users};
use crate::conversation::{Action, Actions, CloseReason, StreamProtocol};
use crate::impair::Occurrences;
use crate::smtp::fault::{FaultAction, Faults, Instead, Place, Rule};
use crate::smtp::secret::Secret;
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
const LIMITS: Limits =
    Limits { command: Duration::from_secs(300), body: Duration::from_secs(180), session: Duration::from_secs(3600) };
const BANNER: &str = "220 mx.test ESMTP netlab mail-serve\r\n";
const MAIL: &str = "EHLO me\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n";

/// A room that keeps everything in memory, at once or as a job.
struct Room {
    rules: Rules,
    is_slow: bool,
    mails: RefCell<Vec<Captured>>,
    /// What the server did not take yet.
    rest: RefCell<Vec<u8>>,
}

impl Room {
    fn new(rules: Rules) -> Self {
        Self { rules, is_slow: false, mails: RefCell::default(), rest: RefCell::default() }
    }
}

impl Mailroom for Room {
    type Kept = usize;

    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn keep(&self, captured: Captured) -> Keep<usize> {
        let length = captured.message.len();
        self.mails.borrow_mut().push(captured);
        if self.is_slow { Keep::Later(Box::new(move || Ok(length))) } else { Keep::Now(Ok(length)) }
    }

    fn nonce(&self) -> String {
        "snonce".to_owned()
    }
}

fn rules() -> Rules {
    Rules {
        name: "mx.test".into(),
        max_size: 1_000,
        max_recipients: 3,
        offers_tls: true,
        users: None,
        auth_in_clear: false,
        limits: LIMITS,
        faults: Arc::default(),
        allowance: Arc::new(Allowance::new(10_000)),
    }
}

fn with_users() -> Rules {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let users = Users::new([("tim".to_owned(), secret("tea"))], secret("pepper"));
    Rules { users: Some(Arc::new(users)), ..rules() }
}

fn with_faults(all: &[(Place, &str, FaultAction)]) -> Rules {
    let rule = |(place, occasions, action): &(Place, &str, FaultAction)| Rule {
        text: String::new(),
        place: *place,
        whose: None,
        occasions: occasions.parse::<Occurrences>().expect("occasions"),
        action: action.clone(),
    };
    Rules { faults: Arc::new(Faults::new(1, all.iter().map(rule).collect())), ..rules() }
}

fn instead(instead: Instead) -> FaultAction {
    FaultAction { instead, ..FaultAction::default() }
}

struct Bench {
    server: Server<Room>,
    room: Rc<Room>,
    out: Actions<Fact<usize>>,
    now: Moment,
    facts: Vec<String>,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self::of(Room::new(rules))
    }

    fn of(room: Room) -> Self {
        let room = Rc::new(room);
        let server = Server::new(Rc::clone(&room), Client { session: 1, ..Client::default() }, START);
        Self { server, room, out: Actions::default(), now: START, facts: Vec::new() }
    }

    /// A bench that has been greeted.
    fn greeted(rules: Rules) -> Self {
        let mut bench = Self::new(rules);
        assert_eq!(bench.open(None), BANNER);
        bench
    }

    fn open(&mut self, tls: Option<&'static str>) -> String {
        self.server.opened(tls, self.now, &mut self.out);
        self.did()
    }

    /// What it said and did since it was last asked.
    fn did(&mut self) -> String {
        self.facts.extend(self.out.events().map(|fact| match fact {
            Fact::Taken(length, _) => format!("taken {length}"),
            Fact::Refused(refused) => format!("refused {} by {}", refused.command, refused.answer.code),
            Fact::Login { user, ok, .. } => format!("login {user} {ok}"),
            Fact::Fault { rule, number, .. } => format!("fault {rule} {number}"),
            Fact::Failed { why, .. } => format!("failed: {why}"),
        }));
        let (steps, bytes) = self.out.queued();
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
    fn hear(&mut self, text: impl AsRef<[u8]>) -> String {
        let mut rest = text.as_ref();
        let mut did = String::new();
        while !rest.is_empty() && !self.server.is_paused() {
            let taken = self.server.received(rest, self.now, &mut self.out);
            rest = &rest[taken..];
            did += &self.did();
            while let Some(job) = self.out.take_job() {
                job();
                self.server.job_done(self.now, &mut self.out);
                did += &self.did();
            }
            if taken == 0 {
                break;
            }
        }
        self.server.sent(self.now, &mut self.out);
        did + &self.did()
    }

    /// Time passes; what the server did at its next alarm, if that comes.
    fn wait(&mut self, time: Duration) -> String {
        self.now = self.now + time;
        if self.server.wake_at().is_some_and(|at| at <= self.now) {
            self.server.woken(self.now, &mut self.out);
        }
        self.did()
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
            let mut bench = Bench::of(Room { is_slow, ..Room::new(rules()) });
            bench.open(None);
            let mut did = String::new();
            let mut rest = Vec::new();
            for piece in said.as_bytes().chunks(size) {
                rest.extend_from_slice(piece);
                loop {
                    let taken = bench.server.received(&rest, bench.now, &mut bench.out);
                    rest.drain(..taken);
                    did += &bench.did();
                    if let Some(job) = bench.out.take_job() {
                        assert!(bench.server.is_paused());
                        job();
                        bench.server.job_done(bench.now, &mut bench.out);
                        did += &bench.did();
                    } else if taken == 0 || rest.is_empty() {
                        break;
                    }
                }
                bench.server.sent(bench.now, &mut bench.out);
                did += &bench.did();
            }
            assert_eq!(codes(&did.replace("<close>", "")), ["250", "250", "250", "354", "250", "221"], "{size}: {did}");
            let mails = bench.room.mails.borrow();
            let got: Vec<&[u8]> = mails.iter().map(|mail| mail.message.as_slice()).collect();
            assert_eq!(got, [b"Subject: hi\r\n\r\n.dot\r\na\n.\nb\r\n"], "{size}");
            assert_eq!((mails[0].sender.address(), mails[0].recipients[0].address.as_str()), ("a@x.test", "b@x.test"));
            assert_eq!(bench.facts, ["taken 28"]);
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
        assert_eq!(codes(&Bench::greeted(rules()).hear(said)), expected, "{said:?}");
    }
    assert_eq!(codes(&Bench::greeted(rules()).hear(b"N\xffOP\r\n")), ["500"]);
}

#[test]
fn the_words_of_ehlo_are_said_once_each() {
    let did = Bench::greeted(rules()).hear("EHLO me\r\n");
    let words = "250-SIZE 1000|250-8BITMIME|250-SMTPUTF8|250-PIPELINING|250-CHUNKING|250-DSN|\
                 250-ENHANCEDSTATUSCODES|250-STARTTLS|250 HELP";
    let expected = format!("250-mx.test greets me\r\n{}\r\n", words.replace('|', "\r\n"));
    assert_eq!(did, expected);
    assert_eq!(Bench::greeted(rules()).hear("HELO me\r\n"), "250 mx.test greets me\r\n");
}

#[test]
fn chunks_are_taken_and_refused_with_their_octets() {
    let mut bench = Bench::greeted(rules());
    let did = bench.hear(format!("{MAIL}BDAT 4\r\n.\r\n\nBDAT 0\r\nBDAT 3 LAST\r\n.\r\nNOOP\r\n"));
    assert_eq!(codes(&did), ["250", "250", "250", "250", "250", "250", "250"]);
    assert_eq!(bench.room.mails.borrow()[0].message, b".\r\n\n.\r\n");
    assert!(bench.room.mails.borrow()[0].is_chunked);
    // What is refused is swallowed: QUIT here is content.
    let mut bench = Bench::greeted(rules());
    assert_eq!(codes(&bench.hear("EHLO me\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n")), ["250", "503", "250"]);
    assert_eq!(codes(&bench.hear("MAIL FROM:<>\r\nRCPT TO:<a@x>\r\nBDAT 1 LAST\r\nx")), ["250", "250", "250"]);
    let mut bench = Bench::greeted(rules());
    let did = bench.hear(format!("{MAIL}BDAT 2\r\nxxDATA\r\nRCPT TO:<c@x>\r\nRSET\r\nMAIL FROM:<>\r\n"));
    assert_eq!(codes(&did)[3..], ["250", "503", "503", "250", "250"]);
}

#[test]
fn what_came_in_clear_behind_starttls_is_not_believed() {
    let mut bench = Bench::greeted(rules());
    assert_eq!(bench.hear("STARTTLS\r\n"), "220 2.0.0 begin TLS\r\n<tls>");
    assert_eq!(bench.open(Some("1.3")), "");
    assert!(!bench.hear("EHLO me\r\n").contains("STARTTLS"));
    assert_eq!(codes(&bench.hear("STARTTLS\r\n")), ["503"]);
    for glued in ["STARTTLS\r\nEHLO evil\r\n", "STARTTLS\r\nE"] {
        let did = Bench::greeted(rules()).hear(glued);
        assert!(did.starts_with("421 4.7.0") && did.ends_with("<close>"), "{did}");
    }
    let mut bench = Bench::greeted(rules());
    bench.hear(format!("{MAIL}STARTTLS\r\n"));
    bench.open(Some("1.2"));
    assert_eq!(codes(&bench.hear("RCPT TO:<a@x>\r\nMAIL FROM:<a@x>\r\n")), ["503", "503"], "all is forgotten");
    assert_eq!(codes(&Bench::greeted(Rules { offers_tls: false, ..rules() }).hear("STARTTLS\r\n")), ["502"]);
}

#[test]
fn a_line_that_breaks_within_a_mail_is_told() {
    for (said, is_told) in [("EHLO me\r\n", false), (MAIL, true)] {
        let mut bench = Bench::greeted(rules());
        bench.hear(said);
        bench.server.ended(&CloseReason::Finished, bench.now, &mut bench.out);
        assert_eq!((bench.did().as_str(), bench.facts.is_empty()), ("<close>", !is_told));
    }
}

#[test]
fn a_mail_that_cannot_be_kept_is_not_acknowledged() {
    struct Full(Rules);
    impl Mailroom for Full {
        type Kept = ();

        fn rules(&self) -> &Rules {
            &self.0
        }

        fn keep(&self, _: Captured) -> Keep<()> {
            Keep::Later(Box::new(|| panic!("the disk is gone")))
        }

        fn nonce(&self) -> String {
            String::new()
        }
    }
    let mut out = Actions::default();
    let mut server = Server::new(Rc::new(Full(rules())), Client::default(), START);
    server.opened(None, START, &mut out);
    server.received(format!("{MAIL}DATA\r\n.\r\n").as_bytes(), START, &mut out);
    out.queued().1.clear();
    // Whoever runs the job has caught the panic; nothing came of it.
    drop(out.take_job());
    server.job_done(START, &mut out);
    assert!(out.queued().1.starts_with(b"452 4.3.1"));
    assert_eq!(super::NO_ROOM, Answer::new(452, "4.3.1 no room for more messages at the moment"));
}
