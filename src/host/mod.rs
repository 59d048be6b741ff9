//! The machine around us: child processes, and what it is called.
//!
//! Owns processes that we start and must not leave behind.

mod child;
mod guarded;
mod hook;

pub(crate) use child::{Child, ChildOutput};
pub(crate) use guarded::SupervisedCommand;
pub(crate) use hook::{Hook, HookExit};

/// What this machine is called.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
