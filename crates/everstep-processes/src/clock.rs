//! The clock of a process: the right one, or one that is set while the process runs. The time of day only; monotonic
//! time is the kernel's. Made by libfaketime, which is between the process and the C library.

use std::{fs, path::PathBuf, process::Command};

/// Where Debian's package `libfaketime` has its library.
const LIBRARIES: &str = "/usr/lib";

/// A clock that one process reads.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// One that shows the right time, kept in this file.
    pub fn right(file: PathBuf) -> Clock {
        let clock = Clock(file);
        clock.set(0);
        clock
    }

    /// Shows so many seconds more than the right time, from now on.
    pub fn set(&self, ahead: i64) {
        // Whole or not at all: the process may read it at any time.
        let ready = self.0.with_extension("ready");
        fs::write(&ready, format!("{ahead:+}\n")).expect("writes");
        fs::rename(&ready, &self.0).expect("renames");
    }

    /// The program that this command starts is told the time by it.
    pub fn tells(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.0)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}

fn library() -> PathBuf {
    let places = fs::read_dir(LIBRARIES).expect("every Linux has it");
    let library = |place: fs::DirEntry| place.path().join("faketime/libfaketimeMT.so.1");
    places.flatten().map(library).find(|library| library.is_file()).unwrap_or_else(|| {
        panic!("there is no libfaketime in {LIBRARIES} (Debian: faketime); `cargo xtask test` installs it")
    })
}
