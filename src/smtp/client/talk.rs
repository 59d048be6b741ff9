//! The dialogue as a conversation: octets, moments and ends in.

use super::Client;
use super::wording::{lost, malformed, other_protocol, timed_out};
use crate::conversation::{Actions, CloseReason, StreamProtocol};
use crate::smtp::plan::{Fact, Security, Stage};
use crate::smtp::reply::Reply;
use crate::time::Moment;

/// The most octets of what is no reply that are told.
const SHOWN: usize = 512;

impl Client {
    /// The reply to the dot counts, whatever is glued behind it; but nothing more is said on this line.
    fn taken_and_more(&mut self, reply: &Reply, now: Moment, out: &mut Actions<Fact>) {
        const GLUED: &str = "a reply behind the one to the final dot that nobody asked for";
        self.mails = 1;
        self.heard(reply, now, out);
        if self.plan.wishes.strict {
            self.failure.get_or_insert(malformed(GLUED));
        } else {
            out.emit(Fact::Odd(GLUED));
        }
    }
}

impl StreamProtocol for Client {
    type Event = Fact;
    const FULL_DUPLEX: bool = true;

    fn opened(&mut self, _: Option<&'static str>, now: Moment, out: &mut Actions<Fact>) {
        if self.stage == Stage::Tls {
            self.is_encrypted = true;
            out.emit(Fact::Encrypted);
            if self.plan.security == Security::Starttls {
                return self.ehlo(now, out);
            }
            self.enter(Stage::Banner, now, out);
        }
        self.since = now;
        self.wait(now);
    }

    fn received(&mut self, bytes: &[u8], now: Moment, out: &mut Actions<Fact>) -> usize {
        if self.is_over {
            return bytes.len();
        }
        let (taken, reply) = match Reply::read(bytes) {
            Ok(None) => return 0,
            Ok(Some(read)) => read,
            Err(fault) => {
                let shown = String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes));
                out.emit(Fact::Nonsense(self.redacted(shown.into_owned())));
                let error = malformed(&fault.to_string());
                let error = if self.stage == Stage::Banner { other_protocol(bytes, error) } else { error };
                self.fail(self.mended(error), false, now, out);
                return bytes.len();
            }
        };
        let rest = bytes.get(taken..).unwrap_or_default();
        // One reply per command: what comes beyond that could be taken for the answer to the next
        // one, and behind the 220 to STARTTLS it would be believed after the handshake (NO STARTTLS).
        let asked = self.awaited.len().max(1);
        // A server may close at any moment and say so (RFC 5321 §3.8): that is the answer to what is said next.
        // A part of it may be all that is there. If it becomes something else, it is the answer to what is
        // said next, as it would be if it had come a moment later; no yes begins so.
        let is_closing = (rest.starts_with(b"421") || b"421".starts_with(rest)) && self.stage != Stage::Starttls;
        if asked == 1 && !is_closing && self.stage == Stage::Dot && self.idle.is_none() {
            self.taken_and_more(&reply, now, out);
            return bytes.len();
        }
        if asked == 1 && !rest.is_empty() && !is_closing && self.stage != Stage::Quit {
            let what = if self.stage == Stage::Starttls {
                format!("{} octets came in clear behind the reply to STARTTLS", rest.len())
            } else {
                format!("a reply to {} that nobody asked for", self.stage)
            };
            out.emit(Fact::Heard(self.without_secrets(&reply).into_owned()));
            let error = malformed(&what);
            self.fail(self.mended(error), false, now, out);
            return bytes.len();
        }
        self.heard(&reply, now, out);
        taken
    }

    fn sent(&mut self, now: Moment, out: &mut Actions<Fact>) {
        if self.stage == Stage::Body && !self.is_over {
            self.dot_is_out = true;
            self.enter(Stage::Dot, now, out);
            self.wait(now);
        }
    }

    fn partly_sent(&mut self, gone: u64, out: &mut Actions<Fact>) {
        if self.stage == Stage::Body {
            out.emit(Fact::Going(gone));
        }
    }

    fn woken(&mut self, now: Moment, out: &mut Actions<Fact>) {
        if self.is_over {
            return;
        }
        if self.idle.is_some() {
            return self.deliver(now, out);
        }
        if self.stage == Stage::Quit {
            self.end(now, out);
            return out.close();
        }
        let error = timed_out(self.stage, now - self.since);
        self.fail(self.mended(error), false, now, out);
    }

    fn draining(&mut self, _: Moment, _: &mut Actions<Fact>) {}

    fn ended(&mut self, end: &CloseReason, now: Moment, out: &mut Actions<Fact>) {
        let error = match end {
            CloseReason::Finished | CloseReason::Truncated => lost(self.stage, None),
            CloseReason::Broken(error) => lost(self.stage, Some(error)),
        };
        self.broke(error, now, out);
    }

    fn wake_at(&self) -> Option<Moment> {
        self.until
    }
}
