//! Message store: inspects a mail, saves it, and makes its event.
//!
//! Owns the work between the last byte and the 250. Work that may block runs in the thread pool. A mail that
//! cannot be saved gets a 4xx reply, so that its sender retries.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mail_parser::{Message, MessagePart, MimeHeaders as _, PartType};

use super::events::{MessageEvent, Part};
use super::message_check;
use super::mime::{content_type, inspect, truncated};
use super::recent_messages::{RecentMessage, RecentMessages};
use crate::commands::report;
use crate::disk::Spool;
use crate::failure::io_error_text;
use crate::net::Waker;
use crate::smtp::count_bare_line_ends;
use crate::smtp::server::{
    Accept, AcceptResult, INSUFFICIENT_STORAGE, MESSAGE_LIMIT_REACHED, MessageSink, ReceivedMessage, ServerReply,
    SessionConfig,
};

/// Size limit for inspection on the event loop; a larger message would delay other connections.
const MAX_INLINE_SIZE: usize = 64 * 1024;
const MAX_REPORTED_PARTS: usize = 1_000;

/// Limit of `--count`, over all threads.
pub(super) struct MessageQuota {
    /// Maximum number of mails; 0 means no limit.
    pub limit: u64,
    /// Mails being stored or stored.
    pub accepted: AtomicU64,
    pub acknowledged: AtomicU64,
    /// Wakes the main thread to stop the server.
    pub waker: Waker,
}

impl MessageQuota {
    fn allows(&self, accepted: u64) -> bool {
        self.limit == 0 || accepted < self.limit
    }

    fn is_open(&self) -> bool {
        self.allows(self.accepted.load(Ordering::Relaxed))
    }

    /// Reserves the quota for one mail, unless it is used up.
    fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let increment = |accepted| self.allows(accepted).then_some(accepted + 1);
        let reserved = self.accepted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment);
        reserved.is_ok().then(|| Permit { quota: Arc::clone(self), is_used: false })
    }

    /// Counts an acknowledged mail; the last one stops the server.
    pub(super) fn acknowledge(&self) {
        if self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == self.limit {
            self.waker.wake();
        }
    }
}

/// A stored mail with its permit, not yet acknowledged.
pub(super) struct StoredMessage {
    event: Arc<MessageEvent>,
    permit: Permit,
}

impl StoredMessage {
    /// Uses up the permit and returns the event.
    pub(super) fn commit(self) -> Arc<MessageEvent> {
        let Self { event, permit } = self;
        permit.mark_used();
        event
    }
}

/// Permit for one mail of `--count`; returned on drop unless it was used.
struct Permit {
    quota: Arc<MessageQuota>,
    is_used: bool,
}

impl Permit {
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

pub(super) struct MessageStore {
    pub config: SessionConfig,
    pub spool: Option<Arc<Spool>>,
    /// Mails for the web pages.
    pub recent: Option<Arc<RecentMessages>>,
    pub quota: Arc<MessageQuota>,
    /// Whether subject, parts and bare line ends are needed.
    pub inspects_content: bool,
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
        let Some(permit) = self.quota.acquire() else { return Accept::Now(Err(MESSAGE_LIMIT_REACHED)) };
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let (spool, recent, inspects_content) = (self.spool.clone(), self.recent.clone(), self.inspects_content);
        let may_block = spool.is_some() || (inspects_content && message.message.len() > MAX_INLINE_SIZE);
        let work = move || {
            let event = store_message(&message, number, spool.as_deref(), inspects_content)?;
            if let Some(recent) = recent {
                recent.push(RecentMessage { event: Arc::clone(&event), message: message.message });
            }
            Ok(StoredMessage { event, permit })
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
    let ReceivedMessage { client, sender, recipients, message, is_chunked, received_at, .. } = received;
    let file = match spool.map(|spool| spool.store(&file_name(received, number), message)) {
        Some(Ok(file)) => Some(file),
        Some(Err(error)) => {
            let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            let (code, text) =
                if is_full { (452, &*INSUFFICIENT_STORAGE.text) } else { (451, "4.3.0 cannot save the message") };
            return Err(ServerReply::new(code, format!("{text} ({})", io_error_text(&error))));
        }
        None => None,
    };
    let mut mail = MessageEvent {
        time: *received_at,
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
        warnings: Vec::new(),
        file: file.map(|file: PathBuf| file.display().to_string()),
    };
    if inspect_content {
        (mail.bare_lf, mail.bare_cr) = count_bare_line_ends(message);
        mail.warnings = message_check::warnings(message, sender.is_8bit || sender.is_smtputf8);
        // Without a header there is nothing to parse.
        mail.all_parts = !message_check::has_header(message);
        inspect(message, |parsed, is_whole| describe(parsed, is_whole, &mut mail));
    }
    Ok(Arc::new(mail))
}

/// Returns a file name that sorts by time.
fn file_name(message: &ReceivedMessage, number: u64) -> String {
    format!("{}-{number}.eml", message.received_at.timestamp().strftime("%Y%m%dT%H%M%S.%6fZ"))
}

/// Fills in subject, message ID and parts.
fn describe(parsed: &Message<'_>, is_whole: bool, mail: &mut MessageEvent) {
    mail.subject = parsed.subject().map(truncated);
    mail.message_id = parsed.message_id().map(truncated);
    if is_whole {
        mail.warnings.extend(message_check::boundary_warning(parsed));
    }
    let leaves = parsed.parts.iter().filter(|part| !matches!(part.body, PartType::Multipart(_)));
    let part = |part: &MessagePart<'_>| Part {
        content_type: content_type(part),
        name: part.attachment_name().map(truncated),
        bytes: part.contents().len(),
    };
    mail.all_parts = is_whole && leaves.clone().nth(MAX_REPORTED_PARTS).is_none();
    mail.parts = leaves.take(MAX_REPORTED_PARTS).map(part).collect();
}
