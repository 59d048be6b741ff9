//! Architecture as a test: imports go down only, rooms on one floor do not know one another,
//! only `output` prints, only `net` touches sockets and clocks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room and its floor, as drawn in `src/lib.rs`.
const FLOORS: [(&str, u8); 21] = [
    ("main", 4),
    ("cli", 4),
    ("commands", 3),
    ("net", 2),
    ("output", 2),
    ("site", 2),
    ("disk", 2),
    ("host", 2),
    ("http", 1),
    ("probe", 1),
    ("heartbeat", 1),
    ("smtp", 1),
    ("stats", 0),
    ("impair", 0),
    ("seal", 0),
    ("strangers", 0),
    ("conversation", 0),
    ("time", 0),
    ("error", 0),
    ("exit", 0),
    ("lib", 5),
];

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Every source file with its room.
fn sources() -> Vec<(PathBuf, String, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(files.len() > 20, "the sources were found");
    files
        .into_iter()
        .map(|file| {
            let relative = file.strip_prefix(&root).expect("beneath src");
            let room = relative.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&file).expect("UTF-8");
            (relative.to_owned(), room, text)
        })
        .collect()
}

/// Lines of code, with their numbers: no comments, and no tests at the end of the file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The rooms that a line names by `crate::`.
fn imports(line: &str) -> Vec<String> {
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| {
            let list = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap_or_default());
            let names: Vec<&str> = list.map_or_else(|| vec![rest], |list| list.split(',').collect());
            names
                .into_iter()
                .map(|name| name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
                .collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_room_has_a_floor() {
    for (file, room, _) in sources() {
        assert!(floor(&room).is_some(), "{} is in no room of the plan", file.display());
    }
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (file, room, text) in sources() {
        let Some(from) = floor(&room).filter(|_| room != "lib" && room != "main") else { continue };
        for (number, line) in code(&text) {
            for name in imports(line) {
                let Some(to) = floor(&name) else {
                    wrong.push(format!("{}:{number}: {name} is no room", file.display()));
                    continue;
                };
                let sideways = to == from && name != room && from != 0;
                if to > from || sideways {
                    wrong.push(format!("{}:{number}: {room} (floor {from}) knows {name} (floor {to})", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn commands_do_not_know_one_another() {
    for (file, room, text) in sources().into_iter().filter(|(_, room, _)| room == "commands") {
        let command = file.iter().nth(1).expect("a command").to_string_lossy().trim_end_matches(".rs").to_owned();
        for (number, line) in code(&text).filter(|_| command != "mod") {
            // A file right beneath `commands` (or a folder's `mod.rs`) reaches its siblings by `super::`,
            // each folder further down by one more of them.
            let depth = file.iter().count() - 1 - usize::from(file.ends_with("mod.rs"));
            let sideways = &"super::".repeat(depth);
            for part in line.split("commands::").skip(1).chain(line.split(sideways.as_str()).skip(1)) {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(
                    name == command || ["values", "fail_if", "told", "web"].contains(&name.as_str()),
                    "{}:{number}: {command} of {room} knows {name}",
                    file.display()
                );
            }
        }
    }
}

/// Words, and the only rooms that may write them.
#[test]
fn printing_sockets_and_clocks_stay_in_their_rooms() {
    let rules: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("println!", &["output"][..]),
        ("print!(", &["output"]),
        ("eprintln!", &["output"]),
        ("eprint!", &["output"]),
        ("io::stderr", &["output"]),
        ("io::stdout()", &["output", "commands"]),
        ("Instant::now", &["net"]),
        ("SystemTime::now", &["net"]),
        ("Timestamp::now", &["net"]),
        ("ZonedDateTime::now", &["net"]),
        ("clock_gettime", &["net"]),
        ("TcpStream", &["net"]),
        ("TcpListener", &["net"]),
        ("UdpSocket", &["net"]),
        ("socket2::", &["net"]),
        ("rustls::", &["net"]),
        ("signal_hook::", &["net"]),
        ("thread::sleep", &[]),
        ("std::env::var", &["output", "net"]),
        ("todo!", &[]),
        ("unimplemented!", &[]),
    ]);
    let mut wrong = Vec::new();
    for (file, room, text) in sources() {
        for (number, line) in code(&text) {
            for (word, rooms) in &rules {
                if line.contains(word) && !rooms.contains(&room.as_str()) {
                    wrong.push(format!("{}:{number}: {word} in {room}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// stdout may be asked about (is it a terminal?), but only `output` writes to it.
#[test]
fn commands_only_ask_about_stdout() {
    for (file, _, text) in sources().into_iter().filter(|(_, room, _)| room == "commands") {
        for (number, line) in code(&text).filter(|(_, line)| line.contains("io::stdout()")) {
            assert!(line.contains("io::stdout().is_terminal()"), "{}:{number}: {line}", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_stays_small() {
    for (file, _, text) in sources() {
        assert!(text.starts_with("//!"), "{} has no header", file.display());
        let lines = text.lines().count();
        assert!(lines <= 400, "{} has {lines} lines and wants splitting by noun", file.display());
    }
}

#[test]
fn the_top_level_is_the_plan() {
    let plan = ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "assets", "man", "src", "target", "tests"];
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("readable") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || plan.contains(&name.as_str()), "{name} is not in the plan");
    }
}

#[test]
fn the_reader_of_imports_reads_what_it_should() {
    assert_eq!(imports("use crate::error::{Error, Result};"), ["error"]);
    assert_eq!(imports("use crate::{net, output::Style};"), ["net", "output"]);
    assert_eq!(imports("        crate::disk::replace(file)"), ["disk"]);
    assert!(imports("use std::fs;").is_empty());
}
