//! The seat of a worker: there is always a process in it. One that dies or is fenced is followed by another of another name.

use std::{fs::File, io::Write as _, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    sync::{mpsc, oneshot, watch},
};

use crate::{
    AnyResult,
    eye::Eye,
    ledger::Line,
    stage::Stage,
    time::{now, pass, within},
    worker::{FENCED, READY},
};

/// How long a worker that leaves may take; then it is killed, as it would be anywhere.
const LEAVES_WITHIN: Duration = Duration::from_secs(20);
/// A stopped worker stays so until it is fenced, but not longer.
const FENCED_WITHIN: Duration = Duration::from_secs(30);

/// What is done to a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Kill,
    /// For so long at least, and until it was fenced.
    Stop(Duration),
}

/// How orders reach a seat: answered when they were carried out.
pub(crate) type Orders = mpsc::Sender<(Order, oneshot::Sender<()>)>;

/// A seat.
pub(crate) struct Seat {
    number: usize,
    stage: Arc<Stage>,
    eye: Arc<Eye>,
    orders: mpsc::Receiver<(Order, oneshot::Sender<()>)>,
    leave: watch::Receiver<bool>,
    /// Who sits in it.
    name: watch::Sender<String>,
    /// Looks at takeovers that are not over.
    looks: tokio::task::JoinSet<AnyResult<()>>,
}

/// How a life ended.
enum End {
    Left,
    Gone,
}

impl Seat {
    /// A seat, how to give it orders, and who sits in it.
    pub(crate) fn new(
        number: usize,
        stage: Arc<Stage>,
        eye: Arc<Eye>,
        leave: watch::Receiver<bool>,
    ) -> (Seat, Orders, watch::Receiver<String>) {
        let (send, orders) = mpsc::channel(1);
        let (name, named) = watch::channel(String::new());
        (Seat { number, stage, eye, orders, leave, name, looks: Default::default() }, send, named)
    }

    /// Until everybody leaves.
    ///
    /// # Errors
    /// A worker ends by itself, or nobody takes over from a dead one.
    pub(crate) async fn keeps(mut self) -> AnyResult<()> {
        for n in 0.. {
            let name = format!("w{}.{n}", self.number);
            self.name.send_replace(name.clone());
            if let End::Left = self.live(&name).await? {
                break;
            }
        }
        while let Some(looked) = self.looks.join_next().await {
            looked??;
        }
        Ok(())
    }

    async fn live(&mut self, name: &str) -> AnyResult<End> {
        let mut leave = self.leave.clone();
        let mut child = self.stage.worker(self.number, name)?;
        let mut log = File::create(self.stage.log_path(name))?;
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut is_ready = false;
        let end = loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Some(line) = line? else {
                        let status = child.wait().await?;
                        return Err(format!("worker {name} ended by itself: {status}").into());
                    };
                    writeln!(log, "{line}")?;
                    is_ready |= line == READY;
                    if line.contains(FENCED) {
                        self.leaves(&mut child, &mut lines, &mut log).await?;
                        break End::Gone;
                    }
                }
                order = self.orders.recv(), if is_ready => {
                    let Some((order, done)) = order else { continue };
                    let pid = Pid::from_raw(child.id().expect("it was not waited for").cast_signed());
                    let pid = pid.expect("a process has a number");
                    match order {
                        Order::Kill => {
                            child.kill().await?;
                            self.looks_for_takeover(name);
                            let _ = done.send(());
                            break End::Gone;
                        }
                        Order::Stop(time) => {
                            self.stands_still(name, pid, time).await?;
                            let _ = done.send(());
                        }
                    }
                }
                () = is_to_leave(&mut leave) => {
                    self.leaves(&mut child, &mut lines, &mut log).await?;
                    break End::Left;
                }
            }
        };
        self.stage.ledger.note(&Line::Dead { by: name.to_string() })?;
        Ok(end)
    }

    fn looks_for_takeover(&mut self, name: &str) {
        let (name, since) = (name.to_string(), now());
        let (stage, eye) = (self.stage.clone(), self.eye.clone());
        self.looks.spawn(async move { eye.sees_takeover(&name, since, &stage.pulse).await });
    }

    async fn stands_still(&mut self, name: &str, pid: Pid, time: Duration) -> AnyResult<()> {
        kill_process(pid, Signal::STOP)?;
        let stopped = move || {
            let of = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(pid), of)
        };
        tokio::task::spawn_blocking(stopped).await??;
        let by = || name.to_string();
        self.stage.ledger.note(&Line::Stopped { by: by() })?;
        let taken = within(FENCED_WITHIN, self.eye.sees_takeover(name, now(), &self.stage.pulse));
        let ((), taken) = futures_util::join!(pass(time), taken);
        self.stage.ledger.note(&Line::GoesOn { by: by() })?;
        kill_process(pid, Signal::CONT)?;
        taken.ok_or_else(|| format!("nobody takes over from {name}, which stands still"))?
    }

    async fn leaves(
        &self,
        child: &mut Child,
        lines: &mut Lines<BufReader<ChildStdout>>,
        log: &mut File,
    ) -> AnyResult<()> {
        drop(child.stdin.take());
        let last_words = async {
            while let Some(line) = lines.next_line().await? {
                writeln!(log, "{line}")?;
            }
            child.wait().await
        };
        match within(LEAVES_WITHIN, last_words).await {
            Some(status) => match status?.success() {
                true => Ok(()),
                false => Err("a worker left with an error".into()),
            },
            None => Ok(child.kill().await?),
        }
    }
}

async fn is_to_leave(leave: &mut watch::Receiver<bool>) {
    // Whoever tells it is gone when everything is over.
    let _ = leave.wait_for(|leave| *leave).await;
}
