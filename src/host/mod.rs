//! Host system: child processes and the host name.
//!
//! Owns the processes that netlab starts; none is left running.

mod child;
mod hook;
mod supervised;

pub(crate) use child::{Child, ChildOutput};
pub(crate) use hook::{Hook, HookExit, check_program};
pub(crate) use supervised::SupervisedCommand;

/// Host name of this machine.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
