//! Documentation tests: man pages, README, help and completions agree with the code.
//!
//! Man pages are generated from `man/in/`, which has the hand-written sections, and from the command line, the
//! table of exit codes and the event schema. `NETLAB_BLESS=1 cargo test --test docs` rewrites them.

mod examples;
#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use netlab::exit::Exit;
use serde_json::Value;

use support::run;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every subcommand that can be run, such as `heartbeat send`, with all its flags built.
fn subcommands() -> Vec<(String, clap::Command)> {
    let mut command = netlab::cli::command();
    command.build();
    let is_help = |command: &&clap::Command| command.get_name() == "help";
    let mut found = Vec::new();
    for outer in command.get_subcommands().filter(|command| !is_help(command)) {
        let inner: Vec<_> = outer.get_subcommands().filter(|command| !is_help(command)).collect();
        if inner.is_empty() {
            found.push((outer.get_name().to_owned(), outer.clone()));
        }
        found.extend(
            inner.into_iter().map(|inner| (format!("{} {}", outer.get_name(), inner.get_name()), inner.clone())),
        );
    }
    found
}

/// Subcommand of a page such as `netlab-serve-http.1`.
fn subcommand(page: &str) -> Option<clap::Command> {
    let path = page.strip_suffix(".1")?;
    match path.strip_prefix("netlab-") {
        None => {
            let mut command = netlab::cli::command();
            command.build();
            Some(command)
        }
        Some(name) => {
            subcommands().into_iter().find(|(known, _)| known.replace(' ', "-") == name).map(|(_, command)| command)
        }
    }
}

fn render(page: &str, source: &str) -> String {
    let mut text = source.replace("@VERSION@", env!("CARGO_PKG_VERSION")).replace("@EXIT@", exit_table().trim_end());
    text = text.replace("@EVENTS@", events().trim_end());
    if let Some(command) = subcommand(page) {
        let options = options(command.clone());
        text = text
            .replace("@SYNOPSIS@", &synopsis(&command, &options))
            .replace("@OPTIONS@", &options)
            .replace("@COMMANDS@", commands().trim_end());
    }
    assert!(!text.contains("@OPTIONS@") && !text.contains("@EXIT@"), "{page} has an unknown placeholder");
    text
}

/// SYNOPSIS: every flag in the order of OPTIONS with its value, `...` where it is repeatable.
fn synopsis(command: &clap::Command, options: &str) -> String {
    let roff = |text: String| text.replace('-', "\\-");
    // clap names the built subcommand with its parent already.
    let mut text = format!(".SH SYNOPSIS\n.B {}", roff(command.get_bin_name().unwrap_or("netlab").to_owned()));
    let (positional, mut flags): (Vec<_>, Vec<_>) =
        command.get_arguments().partition(|argument| argument.is_positional());
    flags.sort_by_key(|flag| options.find(&roff(format!("--{}\\fR", flag.get_long().unwrap_or_default()))));
    let is_repeatable = |argument: &clap::Arg| matches!(argument.get_action(), clap::ArgAction::Append);
    for argument in flags {
        let names = [
            argument.get_short().map(|short| format!("-{short}")),
            argument.get_long().map(|long| format!("--{long}")),
        ];
        let names: Vec<String> = names.into_iter().flatten().map(|name| format!("\\fB{}\\fR", roff(name))).collect();
        let value = argument.get_value_names().filter(|_| argument.get_action().takes_values()).map_or_else(
            String::new,
            |names| {
                let name = format!("\\fI{}\\fR", names.join(" "));
                let is_optional = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
                let is_list = argument.get_num_args().is_some_and(|count| count.max_values() > 1);
                let name = if is_list { format!("{name}...") } else { name };
                if is_optional { format!("[={name}]") } else { format!(" {name}") }
            },
        );
        let is_list = argument.get_num_args().is_some_and(|count| count.max_values() > 1);
        let dots = if is_repeatable(argument) && !is_list { "..." } else { "" };
        let _ = write!(text, "\n[{}{value}]{dots}", names.join("|"));
    }
    for argument in positional {
        let name = format!("\\fI{}\\fR", roff(argument.get_value_names().unwrap_or_default().join(" ")));
        let name = if argument.is_required_set() { name } else { format!("[{name}]") };
        let _ = write!(text, "\n{name}{}", if is_repeatable(argument) { "..." } else { "" });
    }
    if command.has_subcommands() {
        text.push_str("\n\\fICOMMAND\\fR");
    }
    text
}

/// OPTIONS as `clap_mangen` writes it, in lines that `mandoc -T lint` accepts.
fn options(command: clap::Command) -> String {
    // Flags that -h omits for brevity belong in the page.
    let man = clap_mangen::Man::new(command.mut_args(|argument| argument.hide_short_help(false)));
    let mut roff = Vec::new();
    man.render_options_section(&mut roff).expect("a section");
    let text = String::from_utf8(roff).expect("UTF-8");
    let mut lines: Vec<String> = Vec::new();
    for line in text.trim().lines() {
        match line {
            // A paragraph break needs no line break beside it.
            "" | ".sp" | ".br" => {
                let is_after_break = lines.last().is_some_and(|last| [".sp", ".br"].contains(&last.as_str()));
                if is_after_break && line != ".br" {
                    lines.pop();
                }
                if !is_after_break || line != ".br" {
                    lines.push(if line == ".br" { ".br" } else { ".sp" }.to_owned());
                }
            }
            // A help heading becomes a subsection of OPTIONS.
            line if line.starts_with(".SH ") && !line.contains("OPTIONS") => {
                lines.push(line.replacen(".SH ", ".SS ", 1));
            }
            line if line.starts_with('.') => lines.push(line.to_owned()),
            line => lines.extend(filled(line)),
        }
    }
    lines.join("\n")
}

/// A text line as lines of at most 78 bytes; none begins with a control character.
fn filled(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("never empty");
        let is_control = word.starts_with(['.', '\'']);
        if last.is_empty() {
            last.push_str(word);
        } else if last.len() + 1 + word.len() <= 78 || is_control {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn exit_table() -> String {
    Exit::ALL.iter().fold(String::new(), |mut table, exit| {
        let _ = writeln!(table, ".TP\n.B {}\n{}", exit.code(), filled(exit.meaning()).join("\n"));
        table
    })
}

fn commands() -> String {
    subcommands().into_iter().fold(String::new(), |mut list, (name, known)| {
        let name = name.replace([' ', '-'], "\\-");
        let _ = writeln!(
            list,
            ".TP\n.BR netlab\\-{name} (1)\n{}",
            known.get_about().map(ToString::to_string).unwrap_or_default()
        );
        list
    })
}

/// List of all events of the schema with their keys.
fn events() -> String {
    let schema: Value = serde_json::from_str(&read(&root().join("assets/schema/events.json"))).expect("JSON");
    let mut text = String::new();
    for reference in schema["anyOf"].as_array().expect("a list") {
        let path = reference["$ref"].as_str().expect("a reference").trim_start_matches('#');
        let event = schema.pointer(path).unwrap_or_else(|| panic!("{path} is not in the schema"));
        let owner = path.trim_start_matches("/$defs/").split('/').next().filter(|owner| *owner != "any");
        let owner = owner.map_or_else(String::new, |owner| format!(" ({})", owner.replace('-', "\\-")));
        let name = event["properties"]["type"]["const"].as_str().expect("a type");
        let about = match event["description"].as_str() {
            Some(about) => about,
            None if name == "summary" => "Summary of the run.",
            None => panic!("{path} has no description"),
        };
        let keys: Vec<&str> = event["required"]
            .as_array()
            .expect("keys")
            .iter()
            .filter_map(Value::as_str)
            .filter(|key| *key != "type")
            .collect();
        let (about, keys) = (filled(about), filled(&format!("Keys: {}.", keys.join(", "))));
        let _ = writeln!(text, ".TP\n.B {name}{owner}\n{}\n{}", about.join("\n"), keys.join("\n"));
    }
    text
}

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let path = root().join("assets/schema/events.json");
    let derived = serde_json::to_string_pretty(&netlab::cli::event_schema()).expect("JSON") + "\n";
    if std::env::var_os("NETLAB_BLESS").is_some() {
        fs::write(&path, derived).expect("written");
    } else {
        assert!(read(&path) == derived, "stale; NETLAB_BLESS=1 cargo test --test docs rewrites it");
    }
}

#[test]
fn man_pages_are_fresh() {
    let bless = std::env::var_os("NETLAB_BLESS").is_some();
    let mut stale = Vec::new();
    for entry in fs::read_dir(root().join("man/in")).expect("readable") {
        let source = entry.expect("readable").path();
        let name = source.file_name().expect("a name").to_string_lossy().into_owned();
        let page = root().join("man").join(&name);
        let fresh = render(&name, &read(&source)) + "\n";
        let fresh = fresh.trim_end().to_owned() + "\n";
        if bless {
            fs::write(&page, fresh).expect("written");
        } else if fs::read_to_string(&page).ok().as_deref() != Some(&fresh) {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "stale: {stale:?}; NETLAB_BLESS=1 cargo test --test docs rewrites them");
}

#[test]
fn every_subcommand_has_a_man_page_and_a_row_in_the_readme() {
    let readme = read(&root().join("README.md"));
    for (name, _) in subcommands() {
        let page = name.replace(' ', "-");
        assert!(root().join(format!("man/in/netlab-{page}.1")).exists(), "no man page for {name}");
        assert!(readme.contains(&format!("| `{name}` |")), "no row for {name}");
    }
}

#[test]
fn pages_have_their_sections_in_order() {
    const ORDER: [&str; 13] = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "EVENTS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "SECURITY",
        "STANDARDS",
        "SEE ALSO",
    ];
    for entry in fs::read_dir(root().join("man")).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            continue;
        }
        let page = read(&path);
        let sections: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix(".SH ")).map(|name| name.trim_matches('"')).collect();
        let places: Vec<usize> = sections
            .iter()
            .map(|name| {
                ORDER.iter().position(|known| known == name).unwrap_or_else(|| panic!("{}: {name}?", path.display()))
            })
            .collect();
        assert!(places.is_sorted(), "{}: {sections:?}", path.display());
        assert!(!page.contains("\n.TP\n.TP"), "{}", path.display());
        if path.extension().is_some_and(|section| section == "1") {
            for needed in ["DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SECURITY", "SEE ALSO"] {
                assert!(sections.contains(&needed), "{} has no {needed}", path.display());
            }
        }
    }
}

#[test]
fn short_help_fits_a_screen_with_two_examples() {
    let names: Vec<String> = subcommands().into_iter().map(|(name, _)| name).collect();
    let words = |name: &'static str| name.split(' ').chain(["-h"]).collect::<Vec<_>>();
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    for arguments in [vec!["-h"], vec!["heartbeat", "-h"]].into_iter().chain(names.into_iter().map(words)) {
        let mut command = support::netlab(&arguments);
        command.env("COLUMNS", "80");
        let ran = support::run_command(command);
        let lines = ran.stdout.lines().count();
        assert!(lines <= 24, "{arguments:?} has {lines} lines");
        let examples = ran.stdout.split("Examples:\n").nth(1).unwrap_or_default();
        assert!(examples.lines().count() >= 2, "{arguments:?} has fewer than two examples");
        for line in examples.lines() {
            assert!(line.starts_with("  netlab "), "{line}");
        }
    }
}

#[test]
fn the_exit_table_is_the_same_everywhere() {
    let readme = read(&root().join("README.md"));
    let help = run(&["--help"]).stdout;
    for exit in Exit::ALL {
        let row = format!("| {} | {} |", exit.code(), exit.meaning());
        assert!(readme.contains(&row), "README has no row {row:?}");
        let line = format!("{:>3}  {}", exit.code(), exit.meaning());
        assert!(help.contains(&line), "--help has no line {line:?}");
    }
    let rows = readme
        .lines()
        .filter(|line| line.strip_prefix("| ").is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit())))
        .count();
    assert_eq!(rows, Exit::ALL.len(), "README has an unknown code");
}

#[test]
fn completions_have_every_flag() {
    let script = run(&["completions", "zsh"]).stdout;
    for (name, subcommand) in subcommands() {
        for flag in subcommand.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(script.contains(&format!("--{flag}")), "zsh lacks --{flag} of {name}");
        }
    }
    for shell in ["bash", "fish", "powershell", "elvish"] {
        assert!(run(&["completions", shell]).stdout.contains("serve-http"), "{shell}");
    }
    assert_eq!(run(&["completions", "tcsh"]).code, 2);
}

/// The list of subcommands repeats the description of each subcommand.
#[test]
fn the_list_of_subcommands_repeats_their_descriptions() {
    let listed = netlab::cli::command();
    let mut built = netlab::cli::command();
    built.build();
    let about = |command: &clap::Command| command.get_about().map(ToString::to_string);
    for command in listed.get_subcommands() {
        let own = built.find_subcommand(command.get_name()).expect("it is there");
        assert!(about(command).is_some(), "{}", command.get_name());
        assert_eq!(about(command), about(own));
    }
}

/// Every flag of a `netlab` command line in the documents exists.
#[test]
fn documented_flags_exist() {
    let mut command = netlab::cli::command();
    command.build();
    let known: Vec<String> = subcommands()
        .into_iter()
        .map(|(_, command)| command)
        .chain(std::iter::once(command))
        .flat_map(|command| {
            command.get_arguments().filter_map(clap::Arg::get_long).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let mut documents = vec![read(&root().join("README.md"))];
    documents.extend(
        fs::read_dir(root().join("man/in"))
            .expect("readable")
            .map(|entry| read(&entry.expect("readable").path()).replace("\\-", "-")),
    );
    for document in documents {
        for line in document.lines().filter(|line| line.contains("netlab ")) {
            for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
                if let Some(flag) = word
                    .strip_prefix("--")
                    .filter(|flag| !flag.is_empty() && flag.starts_with(|c: char| c.is_ascii_lowercase()))
                {
                    let foreign = line.contains("cargo ");
                    assert!(foreign || known.iter().any(|known| known == flag), "--{flag} does not exist: {line}");
                }
            }
        }
    }
}

#[test]
fn the_demo_succeeds_within_ten_seconds() {
    let ran = run(&["demo", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let summary = ran.summary();
    assert_eq!(summary["failed"], 0, "{summary}");
    assert!(summary["elapsed_ns"].as_u64().is_some_and(|nanos| nanos < 10_000_000_000), "{summary}");
    let text = run(&["demo"]).stdout;
    assert!(
        text.contains("$ netlab serve-http site")
            && text.lines().last().is_some_and(|line| line.contains("steps passed")),
        "{text}"
    );
}
