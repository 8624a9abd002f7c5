//! The examples in the help are held to the command line that they are about.

use clap::{Command, CommandFactory, Parser};

use super::args::{Oo, Secretfs};

/// Every command below a program, with its path.
fn commands(program: Command) -> Vec<(String, Command)> {
    let mut found = Vec::new();
    let mut below = vec![(program.get_name().to_owned(), program)];
    while let Some((path, command)) = below.pop() {
        let further = command.get_subcommands();
        let further = further.filter(|sub| sub.get_name() != "help" && !sub.is_hide_set());
        below.extend(further.map(|sub| (format!("{path} {}", sub.get_name()), sub.clone())));
        found.push((path, command));
    }
    found
}

/// The lines of the examples that start one of the programs, wherever they do: after a pipe, in `$(…)`.
fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_long_help().or(command.get_after_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let Some((_, examples)) = help.split_once("Example") else { return Vec::new() };
    let lines = examples.lines().take_while(|line| !line.starts_with("Exit codes"));
    lines
        .flat_map(|line| line.split(['|', '(', ';']).flat_map(|part| part.split("&&")))
        .map(|part| part.trim().to_owned())
        .filter(|part| part.starts_with("secretfs ") || part.starts_with("oo "))
        .collect()
}

/// The words of a simple command of the shell, without redirections and the comment.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for character in line.chars() {
        let last = words.last_mut().expect("there is always one");
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '#' | '>' | '<' | ')') if last.is_empty() || character == ')' => break,
            (None, ' ') if !last.is_empty() => words.push(String::new()),
            (None, ' ') => {}
            _ => last.push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_has_help_and_an_example_that_parses() {
    for (path, command) in commands(Secretfs::command()) {
        assert!(command.get_about().is_some(), "{path} has no help");
        let examples = examples(&command);
        assert!(
            command.has_subcommands() || examples.iter().any(|line| line.starts_with(&path)),
            "{path} has no example of itself: {examples:?}"
        );
        for line in examples {
            let words = words(&line);
            let error = match words[0].as_str() {
                "oo" => Oo::try_parse_from(&words).err(),
                _ => Secretfs::try_parse_from(&words).err(),
            };
            assert!(error.is_none(), "{path}: `{line}` as {words:?}: {}", error.unwrap());
        }
    }
}

#[test]
fn every_argument_has_help() {
    for (path, command) in commands(Secretfs::command()) {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: {}", argument.get_id());
        }
    }
}

#[test]
fn the_definitions_are_sound() {
    Secretfs::command().debug_assert();
    Oo::command().debug_assert();
}
