//! `everstep copy`.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args;
use everstep_core::{Copied, CopyProgress, Copying, LEASE};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    failure::Failure,
    location::{Location, Purpose},
    print::plural,
};

/// Moves all runs of a store into an empty one, open runs included: whatever worker starts there goes on with them.
///
///   everstep copy sqlite:app.db postgres://app@db/app
///   everstep copy sqlite:app.db sqlite:other.db
///
/// Shut down every worker first: it is refused while one is live. Runs are read and written by number, then read again
/// on both sides and compared by their digests; only then is the first store marked as moved, and the second one open. It
/// goes on where it was broken off when it is run again; until then neither store can be used. Your own tables stay where
/// they are.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Copy {
    /// The store whose runs move
    from: Location,
    /// The store that they move to; it has no runs, or is not there yet
    #[arg(required_unless_present = "abandon")]
    to: Option<Location>,
    /// Gives up a copy that was broken off: the first store can be used again as before
    #[arg(long, conflicts_with = "to")]
    abandon: bool,
    /// How long a worker is silent that counts as dead: the longest lease of the programs that use these stores
    #[arg(long, value_name = "SECONDS", default_value_t = LEASE.as_secs())]
    lease: u64,
}

impl Copy {
    pub(crate) async fn run(self) -> Result<String, Failure> {
        match self.to {
            Some(to) => copy(&self.from, &to, Duration::from_secs(self.lease)).await,
            None => abandon(&self.from).await,
        }
    }
}

async fn copy(from: &Location, to: &Location, lease: Duration) -> Result<String, Failure> {
    let (from_name, to_name) = (from.to_string(), to.to_string());
    if from_name == to_name {
        return Err(Failure::wrong(format!("`{from_name}` cannot be copied into itself")));
    }
    let source = from.open(Purpose::CopyFrom)?;
    let destination = to.open(Purpose::CopyInto)?;
    let copying = Copying::new(source, destination.clone()).names(&from_name, &to_name).lease(lease);
    let mut teller = Teller::new();
    let copied = copying.run(|progress| teller.tell(progress)).await;
    teller.end();
    let Copied { runs, before, digest, .. } = copied?;
    let Some(digest) = digest else {
        return Ok(format!("`{from_name}` had moved to `{to_name}` before\n"));
    };
    let open = open_runs(&*destination).await?;
    let again = match before {
        0 => String::new(),
        before => format!(" ({before} of them were there before)"),
    };
    Ok(format!(
        "`{from_name}` has moved to `{to_name}`: {}{again}, {open} of them open, equal by digest {digest}\n",
        plural(runs, "run")
    ))
}

async fn open_runs(store: &dyn everstep_core::store::Store) -> Result<u64, Failure> {
    let counts = store.counts().await?;
    Ok(counts.iter().filter(|(_, status, _)| !status.is_over()).map(|(_, _, n)| n).sum())
}

async fn abandon(from: &Location) -> Result<String, Failure> {
    let store = from.open(Purpose::CopyFrom)?;
    Ok(match Copying::abandon(&*store).await? {
        true => format!(
            "the copy of `{from}` is given up: it can be used again. Remove what it was copied into\n"
        ),
        false => format!("no copy of `{from}` is under way\n"),
    })
}

/// Tells how far it has come, on standard error: a bar on a terminal; else lines, one for each hundredth at most.
struct Teller {
    bar: Option<ProgressBar>,
    last: Option<(&'static str, u64)>,
}

impl Teller {
    fn new() -> Teller {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg:>8} [{wide_bar}] {pos}/{len} runs, {eta} left");
            ProgressBar::new(0).with_style(style.expect("the template is one"))
        });
        Teller { bar, last: None }
    }

    fn tell(&mut self, progress: CopyProgress) {
        let (what, runs, of) = match progress {
            CopyProgress::Copied { runs, of } => ("copied", runs, of),
            CopyProgress::Verified { runs, of } => ("verified", runs, of),
            other => return self.say(&other.to_string()),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(what);
            bar.set_length(of);
            return bar.set_position(runs);
        }
        let hundredth = (runs * 100).checked_div(of).unwrap_or(100);
        if self.last.replace((what, hundredth)) != Some((what, hundredth)) {
            eprintln!("{progress}");
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
