//! What becomes of a mail: looked into, written to disk, told.
//!
//! Owns the work between the last octet and the 250. What may block is a job; a mail that cannot be kept
//! is refused for now, and its sender tries again.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mail_parser::{Message, MessagePart, MimeHeaders as _, PartType};

use super::archive::{self, Archive};
use super::events::{Mail, Part};
use super::look::{kept, kind, look};
use crate::commands::told;
use crate::disk::Spool;
use crate::error::io_error_text;
use crate::net::Nudge;
use crate::smtp::bare_ends;
use crate::smtp::server::{Answer, Captured, ENOUGH, Keep, Kept, Mailroom, NO_ROOM, Rules};

/// Looking into larger messages takes long enough for others to notice.
const SMALL: usize = 64 * 1024;
/// Parts of a message that are told.
const MOST_PARTS: usize = 1_000;

/// `--count`: how many mails may still be taken, over all threads.
pub struct Budget {
    /// 0 is without end.
    pub limit: u64,
    /// Mails that have been let in.
    pub taken: AtomicU64,
    /// Mails that have been acknowledged.
    pub told: AtomicU64,
    /// Ends the server.
    pub nudge: Nudge,
}

impl Budget {
    /// Whether so many leave a place.
    fn leaves(&self, taken: u64) -> bool {
        self.limit == 0 || taken < self.limit
    }

    fn is_open(&self) -> bool {
        self.leaves(self.taken.load(Ordering::Relaxed))
    }

    /// A place for one more mail, if there is one.
    fn place(self: &Arc<Self>) -> Option<Place> {
        let more = |taken| self.leaves(taken).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Place { budget: Arc::clone(self), is_taken: false })
    }

    /// One more is acknowledged.
    pub fn told(&self) {
        if self.told.fetch_add(1, Ordering::Relaxed) + 1 == self.limit {
            self.nudge.nudge();
        }
    }
}

/// A mail that is kept, with its place.
pub struct Taken {
    mail: Arc<Mail>,
    place: Place,
}

impl Taken {
    /// It is told: now it counts.
    pub fn told(self) -> Arc<Mail> {
        let Self { mail, place } = self;
        place.fill();
        mail
    }
}

/// One of the places of `--count`; given back unless a mail that was told has taken it.
struct Place {
    budget: Arc<Budget>,
    is_taken: bool,
}

impl Place {
    /// A mail has taken it.
    fn fill(mut self) {
        self.is_taken = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_taken {
            self.budget.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Where mails go.
pub struct Office {
    /// The rules of the dialogue.
    pub rules: Rules,
    /// Where they are written, if anywhere.
    pub spool: Option<Arc<Spool>>,
    /// Where they can be looked at, if anywhere.
    pub archive: Option<Arc<Archive>>,
    /// How many there may be.
    pub budget: Arc<Budget>,
    /// Whether anybody wants to know what is in them.
    pub looks: bool,
    /// The number of the last one.
    pub number: Arc<AtomicU64>,
}

impl Mailroom for Office {
    type Kept = Taken;

    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn is_open(&self) -> bool {
        self.budget.is_open()
    }

    fn keep(&self, captured: Captured) -> Keep<Taken> {
        let Some(place) = self.budget.place() else { return Keep::Now(Err(ENOUGH)) };
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let (spool, archive, looks) = (self.spool.clone(), self.archive.clone(), self.looks);
        let may_block = spool.is_some() || (looks && captured.message.len() > SMALL);
        let work = move || {
            let kept = keep(&captured, number, spool.as_deref(), looks)?;
            if let Some(archive) = archive {
                archive.push(archive::Kept { mail: Arc::clone(&kept), message: captured.message });
            }
            Ok(Taken { mail: kept, place })
        };
        if may_block { Keep::Later(Box::new(work)) } else { Keep::Now(work()) }
    }

    fn nonce(&self) -> String {
        format!("{:032x}", rand::random::<u128>())
    }
}

fn keep(captured: &Captured, number: u64, spool: Option<&Spool>, looks: bool) -> Kept<Arc<Mail>> {
    let Captured { client, sender, recipients, message, is_chunked, at, .. } = captured;
    let file = match spool.map(|spool| spool.store(&name(captured, number), message)) {
        Some(Ok(file)) => Some(file),
        Some(Err(error)) => {
            let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            let (code, text) = if is_full { (452, &*NO_ROOM.text) } else { (451, "4.3.0 the mail cannot be kept") };
            return Err(Answer::new(code, format!("{text} ({})", io_error_text(&error))));
        }
        None => None,
    };
    let mut mail = Mail {
        time: *at,
        number,
        session: client.session,
        peer: told::display_peer(client.peer),
        helo: client.name.clone(),
        tls: client.tls,
        auth: client.login.as_ref().map(|(user, _)| user.clone()),
        mechanism: client.login.as_ref().map(|(_, mechanism)| mechanism.word()),
        from: sender.address().to_owned(),
        recipients: recipients.clone(),
        bytes: message.len(),
        subject: None,
        message_id: None,
        parts: Vec::new(),
        all_parts: false,
        is_8bit: sender.is_8bit,
        is_utf8: sender.is_utf8,
        ret: sender.ret.clone(),
        envid: sender.envid.clone(),
        is_chunked: *is_chunked,
        bare_lf: 0,
        bare_cr: 0,
        file: file.map(|file: PathBuf| file.display().to_string()),
    };
    if looks {
        (mail.bare_lf, mail.bare_cr) = bare_ends(message);
        look(message, |read, is_whole| describe(read, is_whole, &mut mail));
    }
    Ok(Arc::new(mail))
}

/// A name that sorts by time.
fn name(captured: &Captured, number: u64) -> String {
    format!("{}-{number}.eml", captured.at.timestamp().strftime("%Y%m%dT%H%M%S.%6fZ"))
}

/// Says what is in a message, as far as anybody wants to know.
fn describe(read: &Message<'_>, is_whole: bool, mail: &mut Mail) {
    mail.subject = read.subject().map(kept);
    mail.message_id = read.message_id().map(kept);
    let leaves = read.parts.iter().filter(|part| !matches!(part.body, PartType::Multipart(_)));
    let part = |part: &MessagePart<'_>| Part {
        kind: kind(part),
        name: part.attachment_name().map(kept),
        bytes: part.contents().len(),
    };
    mail.all_parts = is_whole && leaves.clone().nth(MOST_PARTS).is_none();
    mail.parts = leaves.take(MOST_PARTS).map(part).collect();
}
