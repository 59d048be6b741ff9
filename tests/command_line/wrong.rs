//! Wrong command lines: each line of `wrong.txt` is an exit code, the arguments, and the first line on stderr.
//!
//! `NETLAB_BLESS=1` writes the codes and messages of the binary to the file; read the difference before you commit it.
//! An underscore within an argument stands for a space.

use std::fmt::Write as _;

use crate::support::run;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/command_line/wrong.txt");

#[test]
fn wrong_command_lines_have_their_code_and_message() {
    let table = std::fs::read_to_string(PATH).expect("the table");
    let mut found = String::new();
    for line in table.lines() {
        let arguments = line.split(" | ").nth(1).expect("the arguments");
        let words: Vec<String> =
            arguments.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('_', " ")).collect();
        let ran = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        writeln!(found, "{} | {arguments} | {}", ran.code, ran.stderr.lines().next().unwrap_or_default())
            .expect("text");
    }
    if std::env::var_os("NETLAB_BLESS").is_some() {
        std::fs::write(PATH, &found).expect("written");
    }
    assert!(table.lines().count() >= 200);
    for (found, expected) in found.lines().zip(table.lines()) {
        assert_eq!(found, expected);
    }
}

#[test]
fn no_message_has_a_phrase_of_the_parser() {
    let table = std::fs::read_to_string(PATH).expect("the table");
    for phrase in ["error:", "found in string", "is not in", "to fit in target", "tip:", "Usage:", "unexpected value"] {
        assert!(!table.contains(phrase), "{phrase}");
    }
    assert!(table.lines().all(|line| line.split(" | ").nth(2).is_some_and(|text| text.starts_with("netlab: "))));
}

#[test]
fn hints_name_what_to_type() {
    for (arguments, hint) in [
        ("serve-http --port 8080", "use --bind 8080"),
        ("serve-http 8080", "--bind 8080"),
        ("serve-http --threads 4", "--threads=4"),
        ("ping-serve 12000", "use --bind 12000"),
        ("ping-serve --threads 4", "use --threads=4"),
        ("mail h 25", "HOST:PORT"),
        ("get -i 1s http://h/", "--interval 1s"),
        ("mail --password x h", "--password-file"),
        ("ping -c -1 h", "0 or more"),
        ("get -L http://h/", "redirects are followed"),
        ("get -k https://h/", "--insecure"),
        ("get -m 5 http://h/", "--deadline"),
        ("get --cacert f https://h/", "--ca FILE"),
        ("get -w x http://h/", "-w is --deadline"),
        ("get -c http://h/", "-c is --count"),
        ("ping 127.0.0.1 99999", "HOST PORT for one target"),
        ("get 127.0.0.1 65536 f.txt", "HOST PORT [FILE]"),
        ("mail-serve 127.0.0.1:2525", "use --bind 127.0.0.1:2525"),
        ("get --json=yes http://h/", "--json takes no value"),
        ("gett", "did you mean 'get'?"),
    ] {
        let ran = run(&arguments.split(' ').collect::<Vec<_>>());
        assert!(ran.stderr.contains(hint), "{arguments}: {}", ran.stderr);
    }
}

#[test]
fn a_usage_error_obeys_json_and_color() {
    let json = run(&["get", "--count", "x", "--json", "http://h/"]);
    let events = json.events();
    assert_eq!((events[0]["what"].as_str(), &events[1]["exit"]), (Some("invalid value 'x' for --count"), &2.into()));
    let escape = |ran: crate::support::RunOutput| (ran.stdout + &ran.stderr).contains('\x1b');
    for arguments in [&["get", "--bogus"][..], &["get", "--help"]] {
        assert!(escape(run(&[arguments, &["--color", "always"]].concat())), "{arguments:?}");
        assert!(!escape(run(&[arguments, &["--color=never"]].concat())), "{arguments:?}");
    }
}

#[test]
fn the_spelling_of_textbooks_is_understood() {
    let directory = crate::support::site(&[("HelloWorld.html", b"hello")]);
    let web = crate::support::Server::start(&["serve-http", crate::support::path_str(directory.path())]);
    let port = web.address().port().to_string();
    let page = run(&["get", "127.0.0.1", &port, "HelloWorld.html"]);
    assert_eq!((page.code, page.stdout.as_str()), (0, "hello"));
    assert!(
        page.stderr.starts_with("note: '127.0.0.1 ") && page.stderr.contains("is read as http://"),
        "{}",
        page.stderr
    );
    let ping = crate::support::Server::start(&["ping-serve", "--loss", "0"]);
    let port = ping.address().port().to_string();
    let ran = run(&["ping", "127.0.0.1", &port, "-c", "1"]);
    assert!(ran.code == 0 && ran.stderr.contains("is read as 127.0.0.1:"), "{} {}", ran.code, ran.stderr);
}
