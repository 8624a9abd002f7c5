//! Requests to read the identities and keys again: they are passed on to the server, which answers each time.

use super::Supervisor;
use super::upgrade_socket::{ReloadFault, Request, Requester};
use crate::daemon::ipc::{Control, Order};

/// The processes that wait for a reload.
#[derive(Default)]
pub(super) struct Reloads {
    /// They came after the server was asked, so that what it reads may be older than what they mean.
    waiting: Vec<Requester>,
    /// The server is reading for these.
    asked: Vec<Requester>,
}

impl Reloads {
    /// Asks a server that serves, unless it is reading already.
    pub(super) fn ask(&mut self, server: &Control) {
        if self.waiting.is_empty() || !self.asked.is_empty() {
            return;
        }
        self.asked = std::mem::take(&mut self.waiting);
        if let Err(error) = server.tell(&Order::Reload, &[]) {
            tracing::debug!(%error, "the server died before it was asked to read again");
        }
    }

    /// The server has read.
    pub(super) fn answer(&mut self, outcome: &Result<(), ReloadFault>) {
        self.asked.drain(..).for_each(|requester| requester.tell(outcome));
    }

    /// The server is gone. The request is not made again: it may have been what ended it.
    pub(super) fn server_ended(&mut self) {
        let why =
            "the server ended before it had read the files; the next one reads them when it starts";
        self.answer(&Err(ReloadFault::Failed(why.to_owned())));
    }
}

impl Supervisor {
    /// Does what processes have asked for. Whether the server is to make way for another program.
    pub(super) fn take_requests(&mut self, requesters: Vec<Requester>, server: &Control) -> bool {
        let (upgrades, reloads): (Vec<_>, Vec<_>) =
            requesters.into_iter().partition(|requester| requester.request == Request::Upgrade);
        let upgrades_too = !upgrades.is_empty() || self.plan.is_replaced();
        self.reloads.waiting.extend(reloads);
        if upgrades_too && self.begin_upgrade(upgrades) {
            // The next server is asked.
            return true;
        }
        self.reloads.ask(server);
        false
    }

    /// Reports what the server has read, and asks it again for requests that came since it was asked.
    pub(super) fn tell_of_reload(&mut self, outcome: Result<(), Vec<String>>, server: &Control) {
        let outcome = outcome.map_err(ReloadFault::Refused).and_then(|()| {
            let why = "the files were read again, but not by the program that is installed now: it does not run, and the log tells why";
            (!self.plan.is_replaced()).then_some(()).ok_or(ReloadFault::Failed(why.to_owned()))
        });
        self.reloads.answer(&outcome);
        self.reloads.ask(server);
    }
}
