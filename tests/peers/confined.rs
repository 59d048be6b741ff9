//! The binary in restricted environments: as process 1 of a namespace, and in an empty root directory as nobody.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;

use crate::support::{Server, path_str, run, run_command};
use crate::with;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with("a_server_runs_as_pid_1", &["unshare", "root"], a_server_runs_as_pid_1),
        with(
            "the_binary_runs_in_an_empty_root_as_nobody",
            &["chroot", "ldd", "root"],
            the_binary_runs_in_an_empty_root_as_nobody,
        ),
    ]
}

fn a_server_runs_as_pid_1() {
    let mut command = Command::new("unshare");
    command.args(["-rpf", "--kill-child", env!("CARGO_BIN_EXE_netlab")]);
    command.args(["ping-serve", "--bind", "127.0.0.1:0", "--count", "1", "--json", "--loss", "0"]);
    let server = Server::spawn(command);
    let ran = run(&["ping", &server.addresses[0], "-c", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(server.wait().summary()["exit"], 0);
}

fn the_binary_runs_in_an_empty_root_as_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    let binary = env!("CARGO_BIN_EXE_netlab");
    let listed = Command::new("ldd").arg(binary).output().expect("ldd runs").stdout;
    let libraries = String::from_utf8_lossy(&listed).into_owned();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([binary]) {
        let target = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a directory")).expect("created");
        fs::copy(file, target).expect("copied");
    }
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let mut command = Command::new("chroot");
    command.args([
        "--userspec=65534:65534",
        path_str(root),
        binary,
        "ping-serve",
        "--plan",
        "3",
        "--seed",
        "7",
        "--json",
    ]);
    let ran = run_command(command);
    assert_eq!((ran.code, &ran.summary()["exit"]), (0, &0.into()), "{}", ran.stderr);
}
