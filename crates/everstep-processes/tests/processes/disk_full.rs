//! A full disk makes runs wait and says why; it never makes a body run again.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use everstep_processes::stage::{LEASE_MS, Stage};

use crate::ACTOR;

/// A file system of 8 MB of its own, unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
    _folder: tempfile::TempDir,
}

impl SmallDisk {
    fn new() -> SmallDisk {
        let folder = tempfile::tempdir().expect("room");
        let (image, at) = (folder.path().join("image"), folder.path().join("disk"));
        std::fs::create_dir(&at).expect("makes a folder");
        std::fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("makes an image");
        // Without a journal and reserved blocks: nearly all of it is for files.
        run(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal", "-m", "0"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &at]));
        SmallDisk { at, _folder: folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: who still has a file open there must not keep the test from tidying up.
        run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

fn run(command: &mut Command) {
    let needs = "this test mounts a small file system: it needs Linux, root, loop devices and `mkfs.ext4` (Debian: \
                 e2fsprogs), and `cargo xtask test` installs the program";
    // `mkfs.ext4` is where only root's login shell looks.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    match command.env("PATH", path).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{command:?}: {}\n{needs}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{command:?}: {error}\n{needs}"),
    }
}

/// Takes all room there is and gives a little of it back.
fn leave_room(filler: &Path, bytes: u64) {
    let mut file = std::fs::File::create(filler).expect("makes a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    let all = file.metadata().expect("is there").len();
    file.set_len(all.checked_sub(bytes).expect("there was more room than that")).expect("gives back");
}

const RUNS: usize = 5;
const STEPS: usize = 100;

#[test]
fn a_full_disk_makes_runs_wait_and_runs_no_body_again() {
    let disk = SmallDisk::new();
    let stage = Stage::with_database(ACTOR, disk.path("app.db"));
    let mut worker = stage.worker(LEASE_MS);
    worker.asks("start asks stuck 1", "started");
    worker.asks("start gated held 1", "started");
    worker.hears("stuck stuck");
    worker.hears("begins held held");
    // A fresh database has room in its WAL, and how long that lasts depends on how commits fall together.
    stage.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    leave_room(&disk.path("filler"), 300_000);

    for n in 0..RUNS {
        worker.tell(&format!("start bulk {n} {STEPS}"));
    }
    worker.hears("WARN nothing can be written");
    for asked in ["start chain late 1", "cancel held", "answer stuck 7", "retry stuck"] {
        let answer = worker.ask(asked);
        assert!(answer.starts_with("EV0122 the store cannot write now: "), "{asked}: {answer}");
        assert!(answer.contains("disk is full"), "{asked}: {answer}");
    }
    assert!(stage.number("SELECT count(*) FROM everstep_runs WHERE status = 'completed'") < RUNS as i64);
    // What was asked for did not happen, not even later.
    std::fs::remove_file(disk.path("filler")).expect("it is there");

    for n in 0..RUNS {
        let started = worker.ask(&format!("start bulk {n} {STEPS}"));
        assert_eq!(started, "started");
        worker.asks(&format!("result bulk {n}"), &format!("ok {STEPS}"));
    }
    worker.asks("status gated held", "running");
    worker.asks("status asks stuck", "stuck");
    worker.asks("open held", "ok");
    worker.asks("result gated held", "ok 1");
    assert!(worker.ask("result chain late").starts_with("EV0101"), "its start was refused");
    assert_eq!(stage.each_body_ran_once(), RUNS * STEPS + 4);
    worker.leaves();
    stage.is_whole();
}
