//! A folder with databases, and the command in it.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use everstep_core::{
    Timestamp,
    store::{CopyId, CopyMark, CopyStage, Durability, Numbers, Transfer as _, Whole},
};
use everstep_sqlite::Sqlite;

/// What everything is in.
pub(crate) struct Stage(tempfile::TempDir);

/// How a call of the command went; the folder is called `DIR`.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn open(&self, name: &str) -> Sqlite {
        Sqlite::options().durability(Durability::Process).open(self.path(name)).expect("opens")
    }

    /// A database with these runs.
    pub(crate) async fn with_runs(name: &str, runs: Vec<Whole>) -> Stage {
        let stage = Stage::new();
        let (store, arrives) = (stage.open(name), Some(mark(CopyStage::Arriving)));
        store.set_copy_mark(None, arrives.clone()).await.expect("marks");
        store.place(CopyId(1), Numbers::default(), runs).await.expect("places");
        store.set_copy_mark(arrives, None).await.expect("opens");
        stage
    }

    /// The command with these arguments, in this folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("everstep"));
        command.args(args).current_dir(self.0.path());
        command
    }

    pub(crate) fn everstep(&self, args: &[&str]) -> Said {
        let Output { status, stdout, stderr } = self.command(args).output().expect("it is built");
        let text = |bytes: Vec<u8>| self.without_folder(&String::from_utf8(bytes).expect("a text"));
        Said { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    fn without_folder(&self, text: &str) -> String {
        let real = self.0.path().canonicalize().expect("it is there");
        let folder = |path: &Path| path.display().to_string();
        text.replace(&folder(&real), "DIR").replace(&folder(self.0.path()), "DIR")
    }
}

fn mark(stage: CopyStage) -> CopyMark {
    CopyMark { copy: CopyId(1), stage, other: "sqlite:other.db".into(), at: Timestamp(0) }
}

impl Said {
    /// What it printed, if it succeeded and told nothing else.
    #[track_caller]
    pub(crate) fn done(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self}");
        &self.out
    }

    /// What it told, if it failed with this exit code and printed nothing.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self}");
        &self.err
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}\n{}\n{}", self.code, self.out, self.err)
    }
}
