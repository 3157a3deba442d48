//! Runs by the hundred thousand that move to another store by the command `everstep copy`, which is killed twice on the
//! way and then goes on: both stores are equal by digest, and the open ones finish where they have moved.

mod orders;
mod place;

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use everstep::{
    Engine,
    store::{RunId, Store, Transfer, Whole, WholeDigest},
};

use crate::{actor::AnyResult, chance::Chance};

pub use place::Kind;
use place::Place;

/// How much is played.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Orders; a sixth of them start a child.
    pub orders: u64,
    /// SIGKILLs of the copy.
    pub kills: usize,
}

/// What was played, and seen.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Runs that moved.
    pub runs: u64,
    /// Of these, those that were not over.
    pub open: u64,
    /// SIGKILLs of the copy.
    pub kills: usize,
    /// How long all calls of the copy took.
    pub copying: Duration,
    /// What does not hold, in words.
    pub violations: Vec<String>,
}

impl Size {
    /// A tenth, or all.
    pub fn of(full: bool) -> Size {
        Size { orders: if full { 90_000 } else { 9_000 }, kills: 2 }
    }
}

/// Lines of progress before a kill: fewer than tell of copying, so that the first comes in the middle of it.
const LINES: (usize, usize) = (2, 38);

/// Plays once, with the command `everstep` at this path, from a store of the first kind to one of the second.
///
/// # Errors
/// Processes cannot be made, or a store cannot be used.
pub fn play(everstep: &Path, [from, to]: [Kind; 2], size: Size, seed: u64) -> AnyResult<Figures> {
    let folder = tempfile::tempdir()?;
    let server = place::server([from, to])?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let from = Place::empty(from, folder.path().join("app.db"), server.as_ref()).await?;
        let to = Place::empty(to, folder.path().join("new.db"), server.as_ref()).await?;
        println!("starts {} orders", size.orders);
        orders::begin(from.open().await?, size.orders).await?;
        let copy = Copy { everstep: everstep.to_path_buf(), from, to };
        let mut figures = Figures::default();
        let mut chance = Chance::new(seed);
        for _ in 0..size.kills {
            let took = copy.is_killed_after(chance.between(LINES.0, LINES.1))?;
            figures.copying += took;
            figures.kills += 1;
            if copy.from.open().await.is_ok() {
                figures.violations.push("the source can be opened in the middle of the copy".to_string());
            }
        }
        figures.copying += copy.ends()?;
        if copy.from.open().await.is_ok() {
            figures.violations.push("the source can be opened although its runs have moved".to_string());
        }
        judge(copy.from.look().await?, copy.to.open().await?, size, &mut figures).await?;
        Ok(figures)
    })
}

/// What must hold of the two stores when the copy is complete, and of the runs when an engine has the second one.
async fn judge(from: Arc<dyn Store>, to: Arc<dyn Store>, size: Size, figures: &mut Figures) -> AnyResult<()> {
    const NONE: &str = "its runs cannot be copied";
    let before = digests(from.transfer().ok_or(NONE)?).await?;
    let after = digests(to.transfer().ok_or(NONE)?).await?;
    figures.runs = after.len() as u64;
    let counts = to.counts().await?;
    figures.open = counts.iter().filter(|(_, status, _)| !status.is_over()).map(|(_, _, n)| n).sum();
    if before != after {
        let differ = before.iter().zip(&after).filter(|(here, there)| here != there).count();
        figures.violations.push(format!(
            "{} and {} runs, of which {differ} differ",
            before.len(),
            after.len()
        ));
    }
    println!("{} runs have moved, and {} of them are open", figures.runs, figures.open);
    let engine = orders::engine(to).await?;
    figures.violations.extend(orders::finish(&engine, size.orders).await?);
    let open = engine.count("status not in (completed, failed)").await?;
    if open > 0 {
        figures.violations.push(format!("{open} runs have not ended"));
    }
    Ok(Engine::shutdown(engine).await?)
}

async fn digests(store: &dyn Transfer) -> AnyResult<Vec<(RunId, WholeDigest)>> {
    let (mut all, mut after) = (Vec::new(), RunId(i64::MIN));
    loop {
        let page = store.wholes(after, 1000).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.row.run;
        all.extend(page.iter().map(|whole| (whole.row.run, Whole::digest(whole))));
    }
}

/// A call of the command, again and again the same.
struct Copy {
    everstep: PathBuf,
    from: Place,
    to: Place,
}

impl Copy {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.everstep);
        command.arg("copy").arg(self.from.to_string()).arg(self.to.to_string());
        command
    }

    /// Kills it after so many lines of its progress; how long it lived.
    #[allow(clippy::disallowed_methods, reason = "how long it takes is one of the figures")]
    fn is_killed_after(&self, lines: usize) -> AnyResult<Duration> {
        let began = std::time::Instant::now();
        let mut child = self.command().stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut told = BufReader::new(child.stderr.take().ok_or("it is piped")?).lines();
        let mut last = String::new();
        for _ in 0..lines {
            last = told.next().ok_or_else(|| format!("it ended too soon, after `{last}`"))??;
        }
        child.kill()?;
        let ended = child.wait()?;
        println!("killed: {last}");
        match ended.code() {
            None => Ok(began.elapsed()),
            Some(code) => Err(format!("it ended with {code} before it was killed, after `{last}`").into()),
        }
    }

    /// Lets it come to its end; how long that took.
    #[allow(clippy::disallowed_methods, reason = "how long it takes is one of the figures")]
    fn ends(&self) -> AnyResult<Duration> {
        let began = std::time::Instant::now();
        let ended = self.command().output()?;
        print!("{}", String::from_utf8_lossy(&ended.stdout));
        match ended.status.success() {
            true => Ok(began.elapsed()),
            false => Err(String::from_utf8_lossy(&ended.stderr).into()),
        }
    }
}
