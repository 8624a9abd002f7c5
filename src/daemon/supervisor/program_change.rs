//! Another program in the place of the server's: requests for that, and what happens if the new program does not
//! serve.

use std::fs::File;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::Supervisor;
use super::upgrade_socket;
use super::upgrade_socket::{Requester, UpgradeSocket};
use crate::daemon::host::connection::NO_RESEND;

/// How long a new program may take until it serves.
const UPGRADE: Duration = Duration::from_secs(30);

pub(super) struct Upgrade {
    /// The processes that wait for it; none after a signal.
    pub(super) requesters: Vec<Requester>,
    /// The program before.
    pub(super) previous: File,
    pub(super) until: Instant,
}

impl Supervisor {
    /// Makes the upgrade socket, unless it is there. What prevents it is logged once, and tried again at
    /// the next look: the name may still be that of a mount that is just ending.
    pub(super) fn keep_upgrade_socket(&mut self) {
        let socket = &mut self.signals.upgrade_socket;
        if socket.as_ref().is_some_and(UpgradeSocket::is_in_place) {
            return;
        }
        let effect = (!self.resends).then_some(NO_RESEND);
        match UpgradeSocket::bind(&self.path, effect, &self.plan.state_dir) {
            Ok(made) => (*socket, self.socket_fault) = (Some(made), None),
            Err(error) => {
                let fault = error.to_string();
                if self.socket_fault.as_ref() != Some(&fault) {
                    tracing::warn!(
                        "`secretfs upgrade` does not reach this mount: no socket can be made ({fault}); SIGHUP upgrades as well"
                    );
                }
                (*socket, self.socket_fault) = (None, Some(fault));
            }
        }
    }

    /// Takes the program that is where this one came from. Whether the server is to make way for it.
    pub(super) fn begin_upgrade(&mut self, requesters: Vec<Requester>) -> bool {
        match upgrade_socket::try_out(&self.plan.program_path) {
            Ok(program) => {
                let previous = std::mem::replace(&mut self.plan.program, program);
                let until = Instant::now() + UPGRADE;
                self.upgrade = Some(Upgrade { requesters, previous, until });
                true
            }
            Err(why) => {
                not_upgraded(&requesters, why);
                false
            }
        }
    }

    /// Goes back to the program before, if the one that ended was to show that it serves.
    pub(super) fn give_up_upgrade(&mut self, status: &ExitStatus) -> bool {
        let Some(upgrade) = self.upgrade.take() else { return false };
        self.plan.program = upgrade.previous;
        let why = format!("the new program did not serve ({status}); the log tells why");
        not_upgraded(&upgrade.requesters, why);
        true
    }
}

fn not_upgraded(requesters: &[Requester], why: String) {
    tracing::error!("not upgraded: {why}");
    let outcome: Result<(), String> = Err(why);
    requesters.iter().for_each(|requester| requester.tell(&outcome));
}
