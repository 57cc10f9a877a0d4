//! What cargo has built, read from its JSON messages.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::command::{line, output};

/// A program that cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// `lib`, `bin`, `test`.
    pub(crate) kind: String,
    /// The target's name.
    pub(crate) name: String,
    /// Whether it is a test runner.
    pub(crate) is_test: bool,
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// Runs a cargo command that was given `--message-format=json-render-diagnostics`, and returns the programs built.
pub(crate) fn build(command: &mut Command) -> Result<Vec<Program>> {
    println!("+ {}", line(command));
    command.stderr(std::process::Stdio::inherit());
    Ok(programs(&output(command)?))
}

fn programs(messages: &str) -> Vec<Program> {
    messages
        .lines()
        .filter(|line| line.starts_with(r#"{"reason":"compiler-artifact""#))
        .filter_map(program)
        .collect()
}

fn program(message: &str) -> Option<Program> {
    let target = after(message, r#""target":{"#)?;
    Some(Program {
        kind: string(after(target, r#""kind":["#)?)?,
        name: string(after(target, r#""name":"#)?)?,
        is_test: after(message, r#""profile":{"#)?
            .split('}')
            .next()?
            .contains(r#""test":true"#),
        path: string(after(message, r#""executable":"#)?)?.into(),
    })
}

fn after<'t>(text: &'t str, mark: &str) -> Option<&'t str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// The JSON string that `text` begins with; one with escapes other than `\\` and `\"` is not ours.
fn string(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut string = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(string),
            '\\' => match chars.next()? {
                c @ ('"' | '\\') => string.push(c),
                _ => return None,
            },
            c => string.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///p#iceaxe@0.1.0","manifest_path":"/p/Cargo.toml","target":{"kind":["test"],"crate_types":["bin"],"name":"kernel","src_path":"/p/tests/kernel.rs","edition":"2024","doc":false,"doctest":false,"test":true},"profile":{"opt_level":"0","debuginfo":2,"debug_assertions":true,"overflow_checks":true,"test":true},"features":["cli"],"filenames":["/p/k"],"executable":"/p/a \"b\"/kernel-1","fresh":true}"#;
    const LIB: &str = r#"{"reason":"compiler-artifact","package_id":"x","target":{"kind":["lib"],"crate_types":["lib"],"name":"iceaxe","test":true},"profile":{"opt_level":"0","test":false},"features":[],"filenames":["/p/l"],"executable":null,"fresh":true}"#;

    #[test]
    fn programs_are_found_among_the_messages() {
        let messages = format!("{LIB}\n{TEST}\n{{\"reason\":\"build-finished\",\"success\":true}}\nnoise\n");
        let wanted = Program {
            kind: "test".to_owned(),
            name: "kernel".to_owned(),
            is_test: true,
            path: PathBuf::from("/p/a \"b\"/kernel-1"),
        };
        assert_eq!(programs(&messages), [wanted]);
        assert_eq!(
            programs(&TEST.replace(r#""test":true},"features"#, r#""test":false},"features"#)).len(),
            1
        );
    }
}
