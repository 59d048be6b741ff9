//! What becomes of a mail: looked into, written to disk, told.
//!
//! Owns the work between the last octet and the 250. What may block is a job; a mail that cannot be kept
//! is refused for now, and its sender tries again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mail_parser::{MessageParser, MimeHeaders as _, PartType};

use super::archive::{self, Archive};
use super::events::{Mail, Part};
use crate::commands::told;
use crate::disk::Spool;
use crate::error::word;
use crate::net::Nudge;
use crate::smtp::server::{Answer, Captured, Keep, Kept, Mailroom, NO_ROOM, Rules, bare_ends};

/// Looking into larger messages takes long enough for others to notice.
const SMALL: usize = 64 * 1024;

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
    fn admits(&self) -> bool {
        self.taken.fetch_add(1, Ordering::Relaxed) < self.limit || self.limit == 0
    }

    /// One more is acknowledged.
    pub fn told(&self) {
        if self.told.fetch_add(1, Ordering::Relaxed) + 1 == self.limit {
            self.nudge.nudge();
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
    type Kept = Arc<Mail>;

    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn keep(&self, captured: Captured) -> Keep<Arc<Mail>> {
        if !self.budget.admits() {
            return Keep::Now(Err(Answer::new(
                421,
                "4.3.2 this server has all the mails that it was to take, closing",
            )));
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let (spool, looks, budget) = (self.spool.clone(), self.looks, Arc::clone(&self.budget));
        let archive = self.archive.clone();
        let may_block = spool.is_some() || (looks && captured.message.len() > SMALL);
        let work = move || {
            let kept = keep(&captured, number, spool.as_deref(), looks);
            match &kept {
                Ok(mail) => {
                    if let Some(archive) = archive {
                        archive.push(archive::Kept { mail: Arc::clone(mail), message: captured.message });
                    }
                }
                Err(_) => drop(budget.taken.fetch_sub(1, Ordering::Relaxed)),
            }
            kept
        };
        if may_block { Keep::Later(Box::new(work)) } else { Keep::Now(work()) }
    }

    fn nonce(&self) -> String {
        format!("{:032x}", rand::random::<u128>())
    }
}

fn keep(captured: &Captured, number: u64, spool: Option<&Spool>, looks: bool) -> Kept<Arc<Mail>> {
    let Captured { client, sender, recipients, message, is_chunked, at, .. } = captured;
    let file = match spool.map(|spool| spool.keep(&name(captured, number), message)) {
        Some(Ok(file)) => Some(file),
        Some(Err(error)) => {
            let what = Answer::new(452, format!("{} ({})", NO_ROOM.text, word(&error)));
            return Err(what);
        }
        None => None,
    };
    let mut mail = Mail {
        time: *at,
        number,
        session: client.session,
        peer: told::peer(client.peer),
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
        // A message is a stranger's; whatever its parser makes of it, the mail was kept.
        let _ = catch_unwind(AssertUnwindSafe(|| look(message, &mut mail)));
    }
    Ok(Arc::new(mail))
}

/// A name that sorts by time.
fn name(captured: &Captured, number: u64) -> String {
    format!("{}-{number}.eml", captured.at.timestamp().strftime("%Y%m%dT%H%M%S.%6fZ"))
}

fn look(message: &[u8], mail: &mut Mail) {
    let Some(read) = MessageParser::default().parse(message) else { return };
    mail.subject = read.subject().map(str::to_owned);
    mail.message_id = read.message_id().map(str::to_owned);
    let leaves = read.parts.iter().filter(|part| !matches!(part.body, PartType::Multipart(_)));
    mail.parts = leaves
        .map(|part| Part {
            kind: part.content_type().map_or_else(
                || "text/plain".to_owned(),
                |kind| {
                    let subtype = kind.subtype().map(|subtype| format!("/{subtype}")).unwrap_or_default();
                    format!("{}{subtype}", kind.ctype()).to_ascii_lowercase()
                },
            ),
            name: part.attachment_name().map(str::to_owned),
            bytes: part.len(),
        })
        .collect();
}
