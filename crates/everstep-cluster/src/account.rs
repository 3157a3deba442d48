//! As whom a server runs: PostgreSQL refuses root, so root hands it to a user without rights.

use std::{
    fs,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use crate::error::{Error, Result, While};

/// Whom root runs a server as: the first of them that the machine has. Debian's package makes the first.
const WITHOUT_RIGHTS: [&str; 2] = ["postgres", "nobody"];

/// A user of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
    /// Whether it is another than ours.
    other: bool,
}

impl Account {
    /// Ours, unless we are root.
    pub(crate) fn of_servers() -> Result<Account> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            return Ok(Account { uid: uid.as_raw(), gid: gid.as_raw(), other: false });
        }
        let users = fs::read_to_string("/etc/passwd").during(|| "read the users of this machine".into())?;
        WITHOUT_RIGHTS
            .iter()
            .find_map(|name| named(name, &users))
            .ok_or_else(|| Error::new("we are root, PostgreSQL refuses root, and there is no user `nobody`"))
    }

    /// The program runs as this user, in a folder that it may enter.
    pub(crate) fn runs(&self, command: &mut Command) {
        command.current_dir("/");
        if self.other {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Makes a folder that only this user enters, or finds it made; one that others could have filled is refused.
    pub(crate) fn folder(&self, folder: &Path) -> Result<()> {
        let saying = || format!("make the folder {}", folder.display());
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => self.owns(folder)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).during(saying),
        }
        // Not followed: in a folder where everybody writes, a link may lead anywhere.
        let found = fs::symlink_metadata(folder).during(saying)?;
        // Root may have been stopped between the making and the handing over.
        if self.other && found.is_dir() && found.uid() == 0 {
            return self.owns(folder);
        }
        if found.is_dir() && found.uid() == self.uid && found.mode() & 0o077 == 0 {
            Ok(())
        } else {
            Err(Error::new(format!("{} is not a folder of ours alone: remove it", folder.display())))
        }
    }

    /// Hands a file or folder over to this user.
    pub(crate) fn owns(&self, path: &Path) -> Result<()> {
        if self.other {
            chown(path, Some(self.uid), Some(self.gid)).during(|| format!("hand {} over", path.display()))?;
        }
        Ok(())
    }

    /// A name that no other user's servers have.
    pub(crate) fn names(&self, prefix: &str) -> String {
        format!("{prefix}{}-", self.uid)
    }

    pub(crate) fn is_owner_of(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| found.uid() == self.uid)
    }
}

fn named(name: &str, users: &str) -> Option<Account> {
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.first() == Some(&name))?;
    let number = |n: usize| found.get(n)?.parse().ok();
    Some(Account { uid: number(2)?, gid: number(3)?, other: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\nnobody2:x:7:8::/:\nnobody:x:65534:65533::/:\n";
        let found = named("nobody", users).expect("is there");
        assert_eq!((found.uid, found.gid), (65534, 65533));
        assert!(named("postgres", users).is_none());
    }

    #[test]
    fn a_link_is_no_folder_of_ours() {
        let folder = tempfile::tempdir().expect("room");
        let (link, place) = (folder.path().join("link"), folder.path().join("place"));
        let account = Account::of_servers().expect("somebody");
        account.folder(&place).expect("is made");
        account.folder(&place).expect("is found");
        std::os::unix::fs::symlink(&place, &link).expect("links");
        account.folder(&link).expect_err("it may lead anywhere");
    }
}
