//! Onboarding a new hire: create a record, provision laptop and access side by side, send the welcome mail. Kill it
//! anywhere and run it again: what was done is skipped.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
};

use clap::{Parser, Subcommand};
use everstep::{Ctx, Engine, Event, Result, StepCtx, Workflow, journal::Kind, try_join};
use everstep_examples::{is_url, open, settings};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

type AnyResult<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const STEPS: [&str; 4] = ["create_record", "provision_laptop", "provision_access", "send_welcome_email"];

#[derive(Parser)]
#[command(
    about = "A workflow that survives its process. Without a command: a menu on a terminal, else `demo`."
)]
struct Args {
    #[command(subcommand)]
    command: Option<Verb>,
    /// The database: a file, or `postgres://..`. The effects go to a file beside it, or here
    #[arg(long, global = true, default_value = "onboarding.db")]
    db: String,
    /// The run's id
    #[arg(long, global = true, default_value = "emp-42")]
    id: String,
}

#[derive(Clone, Subcommand)]
enum Verb {
    /// Start the run, or go on where it stopped
    Run,
    /// Run, and kill this very process on the way (SIGKILL)
    Crash {
        /// Once the record of this step is durable
        #[arg(long, value_parser = STEPS, conflicts_with = "in_doubt")]
        after: Option<String>,
        /// After the effect of this step, before its record
        #[arg(long, value_parser = STEPS)]
        in_doubt: Option<String>,
    },
    /// Delete the database and the effects
    Reset,
    /// Crash and resume in two processes, on a fresh temporary file unless `--db` is a URL
    Demo,
}

#[derive(Clone, Serialize, Deserialize)]
struct NewHire {
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Welcome {
    laptop: String,
    access: String,
}

const ONBOARD: Workflow<NewHire, Welcome> = Workflow::new("onboard");

async fn onboard(ctx: Ctx, hire: NewHire, office: Office) -> Result<Welcome> {
    let record = ctx
        .step("create_record", async |s: StepCtx| office.does(&s, format!("record of {}", hire.name)).await)
        .await?;
    let (laptop, access) = try_join!(
        ctx.step("provision_laptop", async |s: StepCtx| office
            .does(&s, format!("laptop for the {record}"))
            .await),
        ctx.step("provision_access", async |s: StepCtx| office
            .does(&s, format!("access for the {record}"))
            .await),
    )?;
    ctx.step("send_welcome_email", async |s: StepCtx| {
        office.does(&s, format!("mail to {}", hire.name)).await
    })
    .await?;
    Ok(Welcome { laptop, access })
}

/// The outside world: a file with a line for each effect.
#[derive(Clone)]
struct Office(Arc<Inner>);

struct Inner {
    effects: PathBuf,
    in_doubt: Option<String>,
    printed: watch::Receiver<Vec<String>>,
}

impl Office {
    async fn does(&self, s: &StepCtx, what: String) -> Result<String> {
        // The effect comes after its `[RUN]` line, so that lines and effects are in the same order each time.
        let me = s.key().to_string();
        self.0.printed.clone().wait_for(|printed| printed.contains(&me)).await?;
        let mut file = OpenOptions::new().create(true).append(true).open(&self.0.effects)?;
        writeln!(file, "{}: {what} (attempt {}, key {})", s.key(), s.attempt(), s.idempotency_key())?;
        if self.0.in_doubt.as_deref() == Some(s.key()) {
            println!("[CRASH] killed in {}", s.key());
            kill_this_process();
        }
        Ok(what)
    }
}

fn kill_this_process() -> ! {
    let _ = io::stdout().flush();
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    unreachable!("SIGKILL cannot be survived")
}

fn effects_file(db: &str) -> PathBuf {
    let db = if is_url(db) { "onboarding.db" } else { db };
    Path::new(db).with_extension("effects.txt")
}

/// What nobody but the world outside knows after a crash. The step is made again with the same key, by which an outside
/// service would see that it has done this already.
fn has_effect(effects: &Path, step: &str) -> bool {
    let lines = std::fs::read_to_string(effects).unwrap_or_default();
    lines.lines().any(|line| line.starts_with(&format!("{step}:")))
}

#[tokio::main]
async fn run(db: &str, id: &str, after: Option<String>, in_doubt: Option<String>) -> AnyResult<()> {
    if !is_url(db) && !Path::new(db).exists() {
        // Deleted by hand: the effects belong to runs that are gone.
        let _ = std::fs::remove_file(effects_file(db));
    }
    let (printer, printed) = watch::channel(Vec::new());
    let office = Office(Arc::new(Inner { effects: effects_file(db), in_doubt, printed }));
    let engine = Engine::on(open(db).await?).state(office).register(ONBOARD, onboard);
    let engine = engine.settings(settings(db)).start().await?;
    let (mut events, effects) = (engine.events(), effects_file(db));
    let printing = tokio::spawn(async move {
        let mut printed = false;
        while let Some(event) = events.next().await {
            if let Event::StepStarted { key, attempt: 1, .. } = &event
                && has_effect(&effects, key)
            {
                println!("[IN DOUBT] {key}: its effect is there, its record is not");
            }
            printed |= print_event(&event, &printer, after.as_deref());
        }
        printed
    });
    let run = engine.start(ONBOARD, id, NewHire { name: "Ada".to_string() }).await?;
    let outcome = run.result().await;
    let journal = run.journal().await?;
    engine.shutdown().await?;
    if !printing.await? {
        // It was over before: nothing happened.
        for entry in journal.iter().filter(|entry| entry.known_kind() == Some(Kind::StepDone)) {
            println!("[SKIP] {} (recorded)", entry.key.as_deref().unwrap_or("-"));
        }
    }
    let Welcome { laptop, access } = outcome?;
    println!("onboarding {id} completed: {laptop}, {access}");
    Ok(())
}

/// Whether there was anything to print.
fn print_event(event: &Event, printer: &watch::Sender<Vec<String>>, crash_after: Option<&str>) -> bool {
    match event {
        Event::StepStarted { key, .. } => {
            println!("[RUN] {key}");
            printer.send_modify(|printed| printed.push(key.to_string()));
        }
        Event::StepDone { key, .. } => {
            println!("[DONE] {key}");
            if crash_after == Some(&**key) {
                println!("[CRASH] killed after {key}");
                kill_this_process();
            }
        }
        Event::Skipped { key, .. } => println!("[SKIP] {key} (recorded)"),
        Event::AttemptFailed { key, error, .. } => println!("[RETRY] {key}: {error}"),
        Event::InDoubt { key, attempt, .. } => println!("[IN DOUBT] {key}: attempt {attempt} did not return"),
        _ => return false,
    }
    true
}

fn reset(db: &str) -> AnyResult<()> {
    let name = if is_url(db) { reset_database(db)? } else { reset_file(Path::new(db))? };
    if effects_file(db).exists() {
        std::fs::remove_file(effects_file(db))?;
    }
    println!("{name} and its effects are gone");
    Ok(())
}

#[cfg(feature = "postgres")]
#[tokio::main]
async fn reset_database(url: &str) -> AnyResult<String> {
    use everstep::postgres::tokio_postgres::{NoTls, connect};
    let (client, connection) = connect(url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("DROP SCHEMA IF EXISTS everstep CASCADE").await?;
    Ok("the schema everstep".to_string())
}

#[cfg(not(feature = "postgres"))]
fn reset_database(_: &str) -> AnyResult<String> {
    Err("build the examples with the feature `postgres`".into())
}

fn reset_file(db: &Path) -> AnyResult<String> {
    let name = db.file_name().ok_or("the path of a file is wanted")?.to_string_lossy().into_owned();
    let folder = db.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The database, its log, and the locks beside it all begin with its name.
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(&name) {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(name)
}

fn demo(db: &str, id: &str) -> AnyResult<()> {
    let folder = tempfile::tempdir()?;
    let db = match is_url(db) {
        true => db.to_string(),
        false => folder.path().join("onboarding.db").display().to_string(),
    };
    for verb in [&["crash", "--after", "create_record"][..], &["run"]] {
        println!("-- {}", verb.join(" "));
        io::stdout().flush()?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(verb)
            .arg("--db")
            .arg(&db)
            .args(["--id", id])
            .spawn()?;
        let process = child.id();
        let status = child.wait()?;
        println!("-- process {process} ended with {status}");
    }
    println!("effects:");
    let effects = std::fs::read_to_string(effects_file(&db))?;
    for step in STEPS {
        let times = effects.lines().filter(|line| line.starts_with(&format!("{step}:"))).count();
        println!("  {step} {times}");
    }
    Ok(())
}

fn menu(args: &Args) -> AnyResult<()> {
    let choices =
        ["run", "crash after create_record", "crash in provision_laptop (in doubt)", "reset", "demo", "quit"];
    loop {
        for (n, choice) in choices.iter().enumerate() {
            println!("  {}  {choice}", n + 1);
        }
        print!("> ");
        io::stdout().flush()?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(());
        }
        // Each in a process of its own: some of them do not come back.
        let verb: &[&str] = match line.trim() {
            "1" => &["run"],
            "2" => &["crash", "--after", "create_record"],
            "3" => &["crash", "--in-doubt", "provision_laptop"],
            "4" => &["reset"],
            "5" => &["demo"],
            "6" => return Ok(()),
            _ => continue,
        };
        Command::new(std::env::current_exe()?)
            .args(verb)
            .arg("--db")
            .arg(&args.db)
            .args(["--id", &args.id])
            .status()?;
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command.clone() {
        Some(Verb::Run) => run(&args.db, &args.id, None, None),
        Some(Verb::Crash { after, in_doubt }) => {
            let after = after.or_else(|| in_doubt.is_none().then(|| STEPS[0].to_string()));
            run(&args.db, &args.id, after, in_doubt)
        }
        Some(Verb::Reset) => reset(&args.db),
        Some(Verb::Demo) => demo(&args.db, &args.id),
        None if io::stdin().is_terminal() => menu(&args),
        None => demo(&args.db, &args.id),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
