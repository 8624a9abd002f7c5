//! Another program in the place of the server's: who asks for it, and what if it does not serve.

use std::fs::File;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::super::upgrade::{self, Caller, Door};
use super::Holder;

/// How long a new program may take until it serves.
const UPGRADE: Duration = Duration::from_secs(30);

pub(super) struct Upgrade {
    /// Who waits for it; nobody after a signal.
    pub(super) caller: Option<Caller>,
    /// The program before.
    pub(super) previous: File,
    pub(super) until: Instant,
}

impl Holder {
    /// Opens the door, unless it is. Its name may still be that of a mount that is just ending: then
    /// it is tried again at the next look.
    pub(super) fn open_door(&mut self) {
        if self.signals.door.is_none() {
            self.signals.door = Door::open(&self.path)
                .inspect_err(|error| tracing::debug!(%error, "nobody can knock yet"))
                .ok();
        }
    }

    /// Takes the program that is where this one came from. Whether the server is to make way for it.
    pub(super) fn begin_upgrade(&mut self, caller: Option<Caller>) -> bool {
        match upgrade::try_out(&self.plan.program_path) {
            Ok(program) => {
                let previous = std::mem::replace(&mut self.plan.program, program);
                let until = Instant::now() + UPGRADE;
                self.upgrade = Some(Upgrade { caller, previous, until });
                true
            }
            Err(why) => {
                not_upgraded(caller, why);
                false
            }
        }
    }

    /// Goes back to the program before, if the one that ended was to show that it serves.
    pub(super) fn give_up_upgrade(&mut self, status: &ExitStatus) -> bool {
        let Some(upgrade) = self.upgrade.take() else { return false };
        self.plan.program = upgrade.previous;
        let why = format!("the new program did not serve ({status}); the log tells why");
        not_upgraded(upgrade.caller, why);
        true
    }
}

fn not_upgraded(caller: Option<Caller>, why: String) {
    tracing::error!("not upgraded: {why}");
    if let Some(caller) = caller {
        caller.tell(&Err(why));
    }
}
