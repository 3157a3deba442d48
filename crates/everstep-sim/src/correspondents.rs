//! Those who write to runs, and who read what they say: senders of signals, askers, holders of tokens, readers.

use everstep_core::ErrorKind;

use crate::{
    history::{Told, What},
    people::{People, id_of},
    plan::{Sending, Sent},
    program::{ASK, Handed, Kept, LOG, Node, PROGRAM, PROGRESS, SIGNALS},
    world::{ms, nap},
};

impl People {
    /// Everybody who writes to a run, or reads what it says.
    pub(crate) fn write_to(&self, run: usize) {
        let plan = &self.world.plan.runs[run];
        for name in 0..SIGNALS.len() {
            let all = plan.letters.iter().filter(|sent| sent.name == name && sent.how != Sending::WithStart);
            let all: Vec<_> = all.cloned().collect();
            self.at(Some(0), move |people| people.send_all(run, all));
        }
        for (at, question) in &plan.asks {
            let question = *question;
            self.at(Some(*at), move |people| people.ask_run(run, question));
        }
        if plan.program.any(&|node| matches!(node, Node::Tell(_))) {
            self.at(Some(plan.start_ms), move |people| people.read(run));
        }
    }

    /// Sends the signals of one name, each when the one before was acknowledged.
    async fn send_all(self, run: usize, all: Vec<Sent>) {
        for sent in all {
            nap(ms(sent.after_ms)).await;
            let times = if sent.how == Sending::Twice { 2 } else { 1 };
            for _ in 0..times {
                if !self.send(run, &sent).await {
                    return;
                }
                let Sent { name, value, .. } = sent;
                self.world.saw(What::SignalHeard { run, name, value });
            }
        }
    }

    async fn send(&self, run: usize, sent: &Sent) -> bool {
        let Sent { name, value, how, .. } = *sent;
        let asks = || {
            self.ask(move |client| async move {
                let signal = client.signal(id_of(run), SIGNALS[name], value);
                match how {
                    Sending::Plain => signal.await,
                    _ => signal.key(&value.to_string()).await,
                }
            })
        };
        self.until_heard(asks).await
    }

    /// Asks a run something, and then once more: the answer is the same.
    async fn ask_run(self, run: usize, question: i64) {
        let mut times = 0;
        while times < 2 {
            let asked = self.ask(move |client| async move {
                client.request(id_of(run), ASK, question).key(&question.to_string()).await
            });
            match asked.await {
                Some(Ok(made)) => {
                    self.world.saw(What::Replied { run, question, made });
                    times += 1;
                }
                Some(Err(error)) if error.kind() == ErrorKind::NotAllowed => return,
                _ => nap(ms(1_000)).await,
            }
        }
    }

    /// Whoever gets a token does with it what he is to do.
    pub async fn keep_promises(self) {
        loop {
            while let Some(handed) = self.world.next_token() {
                let after = handed.owed.after_ms;
                self.at(Some(after), move |people| people.settle(handed));
            }
            self.world.handed.notified().await;
        }
    }

    async fn settle(self, handed: Handed) {
        let Handed { run, token, owed } = handed;
        let number = self.world.token_number(&token);
        let told = loop {
            let token = token.clone();
            let asked = self.ask(move |client| async move {
                match owed.how {
                    Kept::Rejects => client.reject(&token, "no").await,
                    _ => client.resolve(&token, owed.value).await,
                }
            });
            match asked.await {
                Some(Ok(())) if owed.how == Kept::Rejects => break Told::Rejected,
                Some(Ok(())) => break Told::Resolved(owed.value),
                Some(Err(error)) if error.kind() == ErrorKind::NotFound => break Told::Unknown,
                Some(Err(error)) if error.kind() == ErrorKind::NotAllowed => break Told::TooLate,
                _ => nap(ms(1_000)).await,
            }
        };
        self.world.saw(What::Settled { run, token: number, told });
    }

    /// Reads what a run says, for as long as it says something.
    async fn read(self, run: usize) {
        let mut next = 0;
        loop {
            nap(ms(300 + self.world.below(3_000))).await;
            // The status first: what is over says no more.
            let status = self.ask(move |client| async move {
                let handle = client.get(PROGRAM, id_of(run)).await?;
                handle.status().await
            });
            let is_over = matches!(status.await, Some(Ok(status)) if status.is_over());
            let value = self.ask(move |client| async move { client.published(&id_of(run), PROGRESS).await });
            if let Some(Ok(Some(value))) = value.await {
                self.world.saw(What::ReadPublished { run, value });
            }
            let items = self
                .ask(move |client| async move { client.stream(&id_of(run), LOG).from(next).page(100).await });
            for item in items.await.into_iter().flatten().flatten() {
                self.world.saw(What::ReadItem { run, n: item.n, value: item.value });
                next = item.n + 1;
            }
            if is_over {
                return;
            }
        }
    }
}
