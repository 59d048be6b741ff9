//! Completion scripts in the shells that they are for.

use std::process::Command;

use libtest_mimic::Trial;

use crate::support::{path_str, run};
use crate::with;

/// Words to complete, and what must or must not be offered.
const CASES: [(&str, &str, bool); 9] = [
    ("netlab mail --hea", "--header", true),
    ("netlab mail --auth ", "XOAUTH2", true),
    ("netlab ping-serve --direction ", "both", true),
    ("netlab heartbeat send --wire ", "text", true),
    ("netlab heartbeat watch --until ", "any-down", true),
    ("netlab serve-http ", "assets", true),
    ("netlab serve-http ", "--index", false),
    ("netlab heartbeat wa", "watch", true),
    ("netlab mail --timeout ", "Cargo.toml", false),
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with("bash_completes", &["bash"], bash_completes),
        with("zsh_completes", &["zsh"], zsh_completes),
        with("fish_completes", &["fish"], fish_completes),
    ]
}

/// Completes each line with `shell`, which gets the script and the line, and checks what it prints.
fn check(shell: &str, arguments: &[&str], script_name: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = run(&["completions", shell]);
    assert_eq!(script.code, 0, "{}", script.stderr);
    std::fs::write(directory.path().join(script_name), script.stdout).expect("written");
    for (line, word, is_offered) in CASES {
        let output = Command::new(shell)
            .args(arguments)
            .args([path_str(directory.path()), line])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("the shell runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("invalid argument"), "{shell}: {line}: {text}");
        assert_eq!(text.contains(word), is_offered, "{shell}: {line}: {text}");
    }
}

fn bash_completes() {
    const SCRIPT: &str = r#"
        compopt() { :; }
        source "$0/netlab"
        read -ra COMP_WORDS <<< "$1"
        [[ $1 == *' ' ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _netlab netlab "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        echo "${COMPREPLY[@]}"
    "#;
    check("bash", &["-c", SCRIPT], "netlab");
}

fn fish_completes() {
    check("fish", &["-c", "source $argv[1]/netlab; complete -C $argv[2]"], "netlab");
}

/// zsh completes only in an interactive shell, which runs on a terminal of its own.
fn zsh_completes() {
    const SCRIPT: &str = r#"
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z "PS1=PRO''MPT; fpath=($0 \$fpath); autoload -Uz compinit; compinit -u -d $0/dump; bindkey '^I' complete-word; LISTMAX=0; zstyle ':completion:*' menu no; setopt list_ambiguous auto_list; echo READ''Y"
        zpty -r z line "*READY*PROMPT*"
        zpty -n -w z "$1"$'\t\t'$'\C-u'"echo DON''E"$'\n'
        while zpty -r z line; do print -r -- $line; [[ $line == *DONE* ]] && break; done
    "#;
    check("zsh", &["-f", "-c", SCRIPT], "_netlab");
}
