//! What becomes of a mail: looked into, written to disk, told.
//!
//! Owns the work between the last octet and the 250. What may block is a job; a mail that cannot be kept
//! is refused for now, and its sender tries again.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mail_parser::{Message, MessagePart, MimeHeaders as _, PartType};

use super::events::{MessageEvent, Part};
use super::mime::{content_type, inspect, truncated};
use super::recent::{self, RecentMessages};
use crate::commands::report;
use crate::disk::Spool;
use crate::error::io_error_text;
use crate::net::Waker;
use crate::smtp::count_bare_line_ends;
use crate::smtp::server::{
    Accept, AcceptResult, INSUFFICIENT_STORAGE, MESSAGE_LIMIT_REACHED, MessageSink, ReceivedMessage, ServerReply,
    SessionConfig,
};

/// Looking into larger messages takes long enough for others to notice.
const MAX_INLINE_SIZE: usize = 64 * 1024;
/// Parts of a message that are told.
const MAX_REPORTED_PARTS: usize = 1_000;

/// `--count`: how many mails may still be taken, over all threads.
pub(super) struct MessageQuota {
    /// 0 is without end.
    pub limit: u64,
    /// Mails that have been let in.
    pub accepted: AtomicU64,
    /// Mails that have been acknowledged.
    pub acknowledged: AtomicU64,
    /// Ends the server.
    pub waker: Waker,
}

impl MessageQuota {
    /// Whether so many leave a place.
    fn allows(&self, accepted: u64) -> bool {
        self.limit == 0 || accepted < self.limit
    }

    fn is_open(&self) -> bool {
        self.allows(self.accepted.load(Ordering::Relaxed))
    }

    /// A place for one more mail, if there is one.
    fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let more = |taken| self.allows(taken).then_some(taken + 1);
        let taken = self.accepted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Permit { quota: Arc::clone(self), is_used: false })
    }

    /// One more is acknowledged.
    pub(super) fn acknowledge(&self) {
        if self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == self.limit {
            self.waker.wake();
        }
    }
}

/// A mail that is kept, with its place.
pub(super) struct StoredMessage {
    event: Arc<MessageEvent>,
    permit: Permit,
}

impl StoredMessage {
    /// It is told: now it counts.
    pub(super) fn commit(self) -> Arc<MessageEvent> {
        let Self { event: mail, permit: place } = self;
        place.mark_used();
        mail
    }
}

/// One of the places of `--count`; given back unless a mail that was told has taken it.
struct Permit {
    quota: Arc<MessageQuota>,
    is_used: bool,
}

impl Permit {
    /// A mail has taken it.
    fn mark_used(mut self) {
        self.is_used = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_used {
            self.quota.accepted.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Where mails go.
pub(super) struct MessageStore {
    /// The rules of the dialogue.
    pub config: SessionConfig,
    /// Where they are written, if anywhere.
    pub spool: Option<Arc<Spool>>,
    /// Where they can be looked at, if anywhere.
    pub recent: Option<Arc<RecentMessages>>,
    /// How many there may be.
    pub quota: Arc<MessageQuota>,
    /// Whether anybody wants to know what is in them.
    pub inspects_content: bool,
    /// The number of the last one.
    pub last_number: Arc<AtomicU64>,
}

impl MessageSink for MessageStore {
    type Stored = StoredMessage;

    fn config(&self) -> &SessionConfig {
        &self.config
    }

    fn is_open(&self) -> bool {
        self.quota.is_open()
    }

    fn accept(&self, message: ReceivedMessage) -> Accept<StoredMessage> {
        let Some(place) = self.quota.acquire() else { return Accept::Now(Err(MESSAGE_LIMIT_REACHED)) };
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let (spool, archive, looks) = (self.spool.clone(), self.recent.clone(), self.inspects_content);
        let may_block = spool.is_some() || (looks && message.message.len() > MAX_INLINE_SIZE);
        let work = move || {
            let kept = store_message(&message, number, spool.as_deref(), looks)?;
            if let Some(archive) = archive {
                archive.push(recent::RecentMessage { event: Arc::clone(&kept), message: message.message });
            }
            Ok(StoredMessage { event: kept, permit: place })
        };
        if may_block { Accept::Later(Box::new(work)) } else { Accept::Now(work()) }
    }

    fn nonce(&self) -> String {
        format!("{:032x}", rand::random::<u128>())
    }
}

fn store_message(
    received: &ReceivedMessage,
    number: u64,
    spool: Option<&Spool>,
    inspect_content: bool,
) -> AcceptResult<Arc<MessageEvent>> {
    let ReceivedMessage { client, sender, recipients, message, is_chunked, received_at: at, .. } = received;
    let file = match spool.map(|spool| spool.store(&file_name(received, number), message)) {
        Some(Ok(file)) => Some(file),
        Some(Err(error)) => {
            let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            let (code, text) =
                if is_full { (452, &*INSUFFICIENT_STORAGE.text) } else { (451, "4.3.0 the mail cannot be kept") };
            return Err(ServerReply::new(code, format!("{text} ({})", io_error_text(&error))));
        }
        None => None,
    };
    let mut mail = MessageEvent {
        time: *at,
        number,
        session: client.session,
        peer: report::display_peer(client.peer),
        helo: client.helo_name.clone(),
        tls: client.tls,
        auth: client.login.as_ref().map(|(user, _)| user.clone()),
        mechanism: client.login.as_ref().map(|(_, mechanism)| mechanism.name()),
        from: sender.address().to_owned(),
        recipients: recipients.clone(),
        bytes: message.len(),
        subject: None,
        message_id: None,
        parts: Vec::new(),
        all_parts: false,
        is_8bit: sender.is_8bit,
        is_smtputf8: sender.is_smtputf8,
        ret: sender.ret.clone(),
        envid: sender.envid.clone(),
        is_chunked: *is_chunked,
        bare_lf: 0,
        bare_cr: 0,
        file: file.map(|file: PathBuf| file.display().to_string()),
    };
    if inspect_content {
        (mail.bare_lf, mail.bare_cr) = count_bare_line_ends(message);
        inspect(message, |read, is_whole| describe(read, is_whole, &mut mail));
    }
    Ok(Arc::new(mail))
}

/// A name that sorts by time.
fn file_name(message: &ReceivedMessage, number: u64) -> String {
    format!("{}-{number}.eml", message.received_at.timestamp().strftime("%Y%m%dT%H%M%S.%6fZ"))
}

/// Says what is in a message, as far as anybody wants to know.
fn describe(read: &Message<'_>, is_whole: bool, mail: &mut MessageEvent) {
    mail.subject = read.subject().map(truncated);
    mail.message_id = read.message_id().map(truncated);
    let leaves = read.parts.iter().filter(|part| !matches!(part.body, PartType::Multipart(_)));
    let part = |part: &MessagePart<'_>| Part {
        content_type: content_type(part),
        name: part.attachment_name().map(truncated),
        bytes: part.contents().len(),
    };
    mail.all_parts = is_whole && leaves.clone().nth(MAX_REPORTED_PARTS).is_none();
    mail.parts = leaves.take(MAX_REPORTED_PARTS).map(part).collect();
}
