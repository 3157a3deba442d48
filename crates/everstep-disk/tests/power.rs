//! Power loss, in small. The figures are `disk power`'s.

use std::process::Command;

use everstep::store::Durability;
use everstep_disk::{
    history::History,
    life::{self, Setup},
    power::{Sweep, Tally},
    story,
};

fn sweep(durability: Durability, lies: bool, images: usize) -> Tally {
    let setup = Setup { durability, wal_pages: 24 };
    let parts = story::parts(1, durability);
    let recording = life::record(setup, &parts).expect("lives");
    let history = History::of(&recording, setup).expect("is whole without a crash");
    let keeps_promises = durability == Durability::Power;
    let (recording, history, parts) = (&recording, &history, &parts);
    let go_on_every = if lies { u64::MAX } else { 30 };
    Sweep { recording, history, setup, parts, images, go_on_every, lies, keeps_promises }.run()
}

/// faults.md row 4: with a weaker sync than FULL acknowledged commits vanish when the power fails.
#[test]
fn what_was_acknowledged_survives_power_loss() {
    let tally = sweep(Durability::Power, false, 600);
    assert_eq!(tally.told, [], "operation, seed, what");
    assert_eq!((tally.lost, tally.corrupt, tally.wrong_ends), (0, 0, 0));
    assert!(tally.images >= 600 && tally.promises > 10_000 && tally.gone_on > 5, "{tally:?}");
}

/// What the weaker level gives up, and what it does not.
#[test]
fn below_power_only_the_newest_is_lost() {
    let tally = sweep(Durability::Process, false, 600);
    assert_eq!(tally.told, [], "operation, seed, what");
    assert_eq!((tally.corrupt, tally.wrong_ends), (0, 0));
    assert!(tally.images_with_loss > 0, "NORMAL does not sync at each commit");
}

/// The checker has teeth: a disk that only says that it has synced loses promises, and damages files.
#[test]
fn a_disk_that_lies_is_seen() {
    let tally = sweep(Durability::Power, true, 300);
    assert!(tally.lost > 0 && tally.corrupt > 0 && !tally.told.is_empty(), "{tally:?}");
}

/// And so is an Everstep without one of the guards that this can see.
#[test]
fn a_broken_everstep_is_seen() {
    for (guard, said) in [
        ("sync", "images at power"),
        ("order", "promised, and not even written"),
        ("doubt", "promised, and not even written"),
        ("once", "records of its transaction"),
    ] {
        let folder = tempfile::tempdir().expect("room for the recording");
        let disk = Command::new(env!("CARGO_BIN_EXE_disk"))
            .args(["power", "--level", "power", "--images", "300"])
            .env("EVERSTEP_BREAK", guard)
            .env("TMPDIR", folder.path())
            .output()
            .expect("runs");
        let told = String::from_utf8_lossy(&disk.stdout);
        assert_eq!(disk.status.code(), Some(1), "{guard}: {told}");
        assert!(told.contains("again: ") && told.contains(said), "{guard}: {told}");
        assert!(!told.contains(", 0 facts lost"), "{guard}: {told}");
    }
}
