//! `everstep list`.

use std::sync::Arc;

use clap::Args;
use everstep_core::{COUNT_MAX, Client, LIST_LIMIT, RunInfo, Status};
use serde::Serialize;

use crate::{
    failure::Failure,
    location::{Location, Purpose},
    print::{Table, json, plain, time},
};

/// Lists runs that match a filter, newest first, a page at a time.
///
/// A filter is conditions that are joined by `and`:
///
///   everstep list sqlite:app.db 'status in (failed, stuck) and created > -1d'
///   everstep list sqlite:app.db 'workflow = onboard and team = "platform" and amount > 100'
///
/// Fields are id, workflow, status, created, finished; any other name is an attribute's. Times are `2026-01-31`,
/// `2026-01-31T12:00:00Z`, or from now: `-90m`, `-1d`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// The store: `sqlite:app.db` or `postgres://user@host/database`
    store: Location,
    /// Which runs; all if there is none
    #[arg(default_value = "")]
    filter: String,
    /// Runs on a page
    #[arg(long, value_name = "RUNS", default_value_t = LIST_LIMIT)]
    limit: usize,
    /// The page behind the one that ended with this cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Only how many runs there are, by workflow and status
    #[arg(long, conflicts_with_all = ["filter", "limit", "after"])]
    counts: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also if the runs have moved to another store, or are moving
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Page<'a> {
    runs: Vec<Row<'a>>,
    /// How many match; [`COUNT_MAX`] if there are so many or more.
    count: u64,
    /// The cursor of the next page.
    next: Option<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    workflow: &'a str,
    status: &'static str,
    created: String,
    finished: Option<String>,
}

#[derive(Serialize)]
struct Count<'a> {
    workflow: &'a str,
    status: &'static str,
    count: u64,
}

impl List {
    pub(crate) async fn run(self) -> Result<String, Failure> {
        let client = Client::on(self.store.open(Purpose::Look { force: self.force })?);
        if self.counts {
            return Ok(self.told_counts(client.counts().await?));
        }
        let mut list = client.list(&self.filter).limit(self.limit);
        if let Some(cursor) = &self.after {
            list = list.after_cursor(cursor);
        }
        let runs = list.await?;
        let count = client.count(&self.filter).await?;
        // A page that is not full is the last.
        let next = runs.last().filter(|_| runs.len() == self.limit).map(RunInfo::cursor);
        let page = Page { runs: runs.iter().map(Row::of).collect(), count, next };
        Ok(if self.json { json(&page) } else { page.told() })
    }

    fn told_counts(&self, mut counts: Vec<(Arc<str>, Status, u64)>) -> String {
        counts.sort();
        let count = |(workflow, status, count): &(Arc<str>, Status, u64)| {
            let (workflow, status, count) = (workflow.to_string(), status.word(), *count);
            (workflow, status, count)
        };
        let counts: Vec<_> = counts.iter().map(count).collect();
        if self.json {
            let row = |(workflow, status, count): &'_ (String, &'static str, u64)| {
                serde_json::to_value(Count { workflow, status, count: *count }).expect("text keys")
            };
            return json(&counts.iter().map(row).collect::<Vec<_>>());
        }
        let mut table = Table::new(&["WORKFLOW", "STATUS", "RUNS"]);
        for (workflow, status, count) in counts {
            table.row([plain(&workflow), status.to_string(), count.to_string()]);
        }
        table.to_string()
    }
}

impl Row<'_> {
    fn of(run: &RunInfo) -> Row<'_> {
        Row {
            id: &run.id,
            workflow: &run.workflow,
            status: run.status.word(),
            created: time(run.created_at),
            finished: run.finished_at.map(time),
        }
    }
}

impl Page<'_> {
    fn told(&self) -> String {
        let mut table = Table::new(&["ID", "WORKFLOW", "STATUS", "CREATED", "FINISHED"]);
        for run in &self.runs {
            let finished = run.finished.clone().unwrap_or_default();
            table.row([plain(run.id), plain(run.workflow), run.status.into(), run.created.clone(), finished]);
        }
        let all = match self.count {
            COUNT_MAX.. => format!("more than {}", COUNT_MAX - 1),
            count => count.to_string(),
        };
        let next = match &self.next {
            Some(cursor) => format!("; the next page: --after {cursor}"),
            None => String::new(),
        };
        match self.runs.len() {
            0 => format!("no runs of {all}\n"),
            shown => format!("{table}{shown} of {all} runs{next}\n"),
        }
    }
}
