//! Being asked for a value, on a terminal and without echo.

use crate::harness::ALICE;
use crate::kit::Cli;
use crate::terminal::Terminal;

#[test]
fn what_is_typed_is_not_shown_and_its_length_is_told() {
    let Some(cli) = Cli::start() else { return };
    let mut terminal = Terminal::run(&cli, ALICE, 80, "secretfs save K");
    terminal.expect_question("Enter secret value: ");
    terminal.type_in("hunter2\r");
    let (code, shown) = terminal.end();
    assert_eq!(
        (code, shown.as_str()),
        (0, "Enter secret value: \nThe value has 7 bytes.\nSaved `alice/K`.\n")
    );
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/K").is(0, "hunter2", "");
}

#[test]
fn a_long_value_can_be_pasted() {
    let Some(cli) = Cli::start() else { return };
    let mut terminal = Terminal::run(&cli, ALICE, 80, "secretfs save K");
    terminal.expect_question("Enter secret value: ");
    terminal.type_in(&"0123456789".repeat(1000));
    terminal.type_in("\r");
    terminal.expect("The value has 10000 bytes.");
    assert_eq!(terminal.end().0, 0);
}

#[test]
fn ctrl_c_ends_it_and_the_echo_comes_back() {
    let Some(cli) = Cli::start() else { return };
    // The shell catches the signal, so that the terminal is still there afterwards.
    let line = "trap : INT; secretfs save K; echo \"code $?\"; read -r rest";
    let mut terminal = Terminal::run(&cli, ALICE, 80, line);
    terminal.expect_question("Enter secret value: ");
    terminal.type_in("hun\x03");
    terminal.expect("code 130");
    assert!(terminal.echoes(), "{}", terminal.shown());
    terminal.type_in("\r");
    assert_eq!(terminal.end().1, "Enter secret value: \ncode 130\n\n");
    cli.run(ALICE, "secretfs list -o json").is(0, "[]\n", "");
}

#[test]
fn any_signal_gives_the_echo_back() {
    let Some(cli) = Cli::start() else { return };
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        let line = "(echo $BASHPID > pid; exec secretfs save K); echo \"code $?\"; read -r rest";
        let mut terminal = Terminal::run(&cli, ALICE, 80, line);
        terminal.expect_question("Enter secret value: ");
        cli.run(ALICE, &format!("kill -{signal} $(cat pid)")).done();
        terminal.expect(&format!("code {code}"));
        assert!(terminal.echoes(), "{signal}: {}", terminal.shown());
        terminal.type_in("\r");
        terminal.end();
    }
}

#[test]
fn nothing_typed_changes_nothing() {
    let Some(cli) = Cli::start() else { return };
    for typed in ["\r", "\x04"] {
        let mut terminal = Terminal::run(&cli, ALICE, 80, "NO_COLOR=1 secretfs save K");
        terminal.expect_question("Enter secret value: ");
        terminal.type_in(typed);
        let (code, shown) = terminal.end();
        assert_eq!(code, 2);
        let error = "Error: no value was typed and nothing was changed; an empty value is written as \"\"\n";
        assert!(shown.ends_with(error), "{shown}");
    }
}

#[test]
fn without_a_terminal_there_is_nobody_to_ask() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "setsid -w secretfs save K").is(
        2,
        "",
        "Error: the value is missing and there is no terminal to ask for it; give it as an argument, \
         with --from-file FILE, or as `-` on standard input\n",
    );
}
