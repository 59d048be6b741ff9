//! netlab: both ends of the classic socket labs in one executable.
//!
//! The promise to users is the command line, the exit codes and the JSON events. The library exists for the binary,
//! the tests and the man pages.
//!
//! ```text
//! 4  main  cli
//! 3  commands                            one module per subcommand: flags, run, event wording, exit codes
//! 2  net  output  site  disk  host       the outside world: sockets, printing, files, processes
//! 1  http  probe  heartbeat  smtp        protocol rules: bytes and times in, bytes and events out
//! 0  stats  impair  mac  rate_limit  protocol  time  stop  failure  error  exit
//! ```
//!
//! Imports go down only, and modules of one layer do not import each other (layer 0 may); `tests/layers.rs` reads
//! the diagram and checks it. Five walks through the layers:
//!
//! - a request: event loop in `net` → server session in `http` → a request → handler in `commands` → `site` opens the
//!   file its path names → the session writes the head → `net` sends head and file → an event for `output`;
//! - a fetch: `commands` → `net` resolves, connects and runs the client loop → client session in `http` parses the
//!   response → the sink in `commands` passes the body to `disk` or `output` → phase times to `stats` → an exit code;
//! - a ping: `commands` → datagram loop in `net` → the sender in `probe` transmits → `net` sends and takes the
//!   kernel timestamp → reply and timestamp → the sender's ledger → an event for `output` → a summary from `stats`;
//! - a beat: datagram loop in `net` → the watcher in `heartbeat` parses the packet → sender table → failure detector →
//!   a change of state → `commands` runs the hook in `host`, saves the state in `disk`, prints the event;
//! - a mail: `commands` composes the message → `net` connects → client loop → the client session in `smtp` (greeting,
//!   EHLO, STARTTLS, AUTH, transaction) → events to the observer → outcomes → retries → an exit code.
//!
//! # Glossary
//!
//! One word for one thing, in code, help, man pages and messages.
//!
//! | word | meaning |
//! |---|---|
//! | connection, listener, socket, datagram, endpoint | as in POSIX; an endpoint is a datagram protocol with its sockets |
//! | peer, client, server | the other end; the two roles |
//! | stream protocol, datagram protocol, actions | a state machine without sockets, and what it asks the loop to do |
//! | event loop, worker, waker | readiness loop of a server, its thread, and what interrupts its wait |
//! | send queue, receive buffer | bytes the kernel has not accepted; bytes the protocol has not consumed |
//! | session, transaction, stage | one protocol dialogue on one connection; one mail in it; one step of it |
//! | request, response, reply | HTTP's pair; the answer of an SMTP server or an echo server |
//! | event, summary, report, observer | what is reported; the last event; either of them; what receives events |
//! | timeout, deadline | a span without progress; a moment at which everything ends |
//! | probe, round-trip time, timestamp | one ping; the time until its reply; the kernel's time of a datagram |
//! | late, lost, refused, rejected | after the timeout; never; by the network or a closed port; by protocol |
//! | beat, sender, incarnation, failure detector | one heartbeat; its source; one run of a sender; the rule for late and down |
//! | sequence gap, flap damping, conflicting sender | missing numbers; RFC 2439; a second source under one name |
//! | fault rule, fault point, effect | one `--fault`; where it applies; what it does |
//! | rate limit, source prefix, token bucket | replies per network of unknown peers |
//! | byte | octet only where a wire format is quoted |

pub mod cli;
mod commands;
mod disk;
mod error;
pub mod exit;
mod failure;
mod heartbeat;
mod host;
mod http;
mod impair;
mod mac;
mod net;
mod output;
mod probe;
mod protocol;
mod rate_limit;
mod site;
mod smtp;
mod stats;
mod stop;
mod time;
