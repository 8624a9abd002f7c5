//! Deaths of all processes in a row, as `systemctl kill -s KILL` brings them about.

use std::time::{Duration, Instant};

use crate::fdstore::Manager;
use crate::giving_up::{LONGEST_START, LONGEST_WAIT, Load};
use crate::harness::ROOT;

/// Between two deaths.
const INTERVAL: Duration = Duration::from_millis(500);

#[test]
fn seven_deaths_in_a_row_leave_nobody_waiting() {
    let Some((mut manager, mut mount)) = Manager::prepare() else { return };
    mount.go();
    manager.listen();
    mount.user(ROOT).put("d/first", "value", "");
    let load = Load::on(&mount.point().join("d"));
    for round in 0..7 {
        mount.kill_all();
        let next_death = Instant::now() + INTERVAL;
        if round < 6 {
            // Killed while it starts, or a moment after.
            mount.launch_with(manager.copies());
            std::thread::sleep(next_death.saturating_duration_since(Instant::now()));
            manager.listen();
        }
    }
    let start = Instant::now();
    mount.go_with(manager.copies());
    manager.listen();
    assert!(start.elapsed() < LONGEST_START, "{:?}", start.elapsed());
    load.ends_within(LONGEST_WAIT);
    let start = Instant::now();
    assert_eq!(mount.user(ROOT).read("d/first").as_deref(), Ok("value"));
    assert!(start.elapsed() < LONGEST_WAIT, "{:?}", start.elapsed());
    mount.stop();
    manager.listen();
}
