//! What cargo has built, read from its JSON messages.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

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
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    messages.filter_map(|message| program(&message)).collect()
}

fn program(message: &Value) -> Option<Program> {
    let target = &message["target"];
    Some(Program {
        kind: target["kind"][0].as_str()?.to_owned(),
        name: target["name"].as_str()?.to_owned(),
        is_test: message["profile"]["test"].as_bool()?,
        path: message["executable"].as_str()?.into(),
    })
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
    }
}
