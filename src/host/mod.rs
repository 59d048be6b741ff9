//! The machine around us: child processes, and what it is called.
//!
//! Owns processes that we start and must not leave behind.

mod child;
mod guarded;
mod hook;

pub use child::{Child, ChildOutput};
pub use guarded::SupervisedCommand;
pub use hook::{Hook, HookExit};

/// What this machine is called.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
