//! `exec`: a program with secrets in its environment.

use crate::harness::{ALICE, BOB};
use crate::kit::Cli;

#[test]
fn the_program_has_the_value_and_keeps_its_exit_code() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save DB 'postgresql://é'; secretfs save EMPTY ''").done();
    cli.run(
        ALICE,
        "secretfs exec --env DB=alice/DB --env E=alice/EMPTY -- bash -c 'echo \"$DB${E-unset}\"; exit 7'",
    )
    .is(7, "postgresql://é\n", "");
    cli.run(ALICE, "secretfs exec -- printf %s --env").is(0, "--env", "");
}

#[test]
fn it_is_the_same_process_so_signals_reach_it_and_nothing_is_left() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save DB hunter2").done();
    cli.run(
        ALICE,
        "secretfs exec --env DB=alice/DB -- bash -c 'trap \"echo got it; exit 3\" TERM; echo up > up; \
         while :; do sleep 0.01; done' & pid=$!; \
         until [ -e up ]; do sleep 0.01; done; cat /proc/$pid/comm; kill -TERM $pid; wait $pid",
    )
    .is(3, "bash\ngot it\n", "");
    cli.run(ALICE, "{ secretfs exec -- bash -c 'kill -KILL $$'; } 2> /dev/null; echo $?")
        .is(0, "137\n", "");
    // Not in the environment of whoever started it.
    cli.run(
        ALICE,
        "secretfs exec --env DB=alice/DB -- bash -c 'echo $DB; grep -c hunter2 /proc/$PPID/environ'; :",
    )
    .is(0, "hunter2\n0\n", "");
}

#[test]
fn a_directory_gives_a_variable_for_each_secret_right_below() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "for k in svc/A svc/B svc/deep/C; do secretfs save $k of-$k; done").done();
    cli.run(
        ALICE,
        "secretfs exec --env B=alice/svc/deep/C --env-file-dir alice/svc -- bash -c 'echo $A $B ${C-no C}'",
    )
    .is(0, "of-svc/A of-svc/deep/C no C\n", "");
    cli.run(ALICE, "secretfs exec --env-file-dir alice/svcs -- echo never").is(
        4,
        "",
        "Error: no secret that you may see is right below `alice/svcs`; `secretfs list` shows what is \
         there\n",
    );
}

#[test]
fn without_every_value_the_program_does_not_start() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save DB v; printf 'a\\0b' | secretfs save NUL -").done();
    for (person, variable, code, error) in [
        (
            ALICE,
            "X=alice/NUL",
            5,
            "the value of `alice/NUL` holds a NUL byte, which no environment variable can; let the \
             program read the file instead",
        ),
        (
            ALICE,
            "X=nope",
            4,
            "cannot read `nope`: nothing of that name is visible to you; `secretfs list` shows what is",
        ),
        (
            BOB,
            "X=alice/DB",
            3,
            "cannot read `alice/DB`: you may not read it: none of your slugs is in its `readers` list; \
             ask for one of them to be added",
        ),
        (ALICE, "X", 2, "`X` is not NAME=KEY; write it like DB=auth-svc/DATABASE_URL"),
        (
            ALICE,
            "1X=alice/DB",
            2,
            "`1X` cannot name an environment variable; name it yourself with --env NAME=KEY",
        ),
    ] {
        let line = format!("secretfs exec --env {variable} -- echo never");
        cli.run(person, &line).is(code, "", &format!("Error: {error}\n"));
    }
}

#[test]
fn a_program_that_cannot_run_is_named() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "text", "no program");
    cli.run(ALICE, "secretfs exec -- no-such-program").is(
        4,
        "",
        "Error: cannot run `no-such-program`: it is not there; check the spelling\n",
    );
    cli.run(ALICE, "secretfs exec -- ./text").is(
        3,
        "",
        "Error: cannot run `./text`: you may not; ask its owner or use another account\n",
    );
}

#[test]
fn the_key_of_the_service_is_not_passed_on() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save DB v").done();
    let shown = "bash -c 'echo ${OB_ENCRYPTION_KEY-none} $DB'";
    cli.run(ALICE, &format!("OB_ENCRYPTION_KEY=k secretfs exec --env DB=alice/DB -- {shown}"))
        .is(0, "none v\n", "");
    cli.run(
        ALICE,
        &format!("OB_ENCRYPTION_KEY=k secretfs watch --initial --once alice/DB -- {shown}"),
    )
    .is(0, "none\n", "");
    // Unless it is asked for.
    cli.run(
        ALICE,
        "OB_ENCRYPTION_KEY=k secretfs exec --env OB_ENCRYPTION_KEY=alice/DB -- \
         bash -c 'echo $OB_ENCRYPTION_KEY'",
    )
    .is(0, "v\n", "");
}
