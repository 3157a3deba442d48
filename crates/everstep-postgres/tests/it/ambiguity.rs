//! Replies that are lost: whatever is cut, and when, the answer and the database are as if nothing had been cut.

use everstep_cluster::proxy::{Direction, Fault, Moment, Proxy, Strike};
use everstep_core::{
    Status, StatusSet, Stuck, StuckReason,
    journal::{Kind, Payload},
    store::{
        Cut, Does, Doomed, End, Inspect as _, Mark, Posted, Say, Started, StartedRow, Store as _, Transacted,
        Turn,
    },
};

use crate::{
    fixture::Desk,
    hand::{Hand, Held, act, at, claim, entry, finished, fresh, letter, new_run, parked, post, step, told},
    world::{World, another_client},
};

/// Statements of the listener come when they like.
fn of_the_store(text: &str) -> bool {
    let of_hints = text.contains("pg_notify") || text.contains("LISTEN");
    !of_hints && !text.starts_with("SELECT EXISTS") && !text.starts_with("SET ")
}

/// One operation, with what it needs before and what shows after it that the worker goes on.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Start,
    StartClaimed,
    StartFurnished,
    Entry,
    TwoRuns,
    Finish,
    ParkBare,
    ParkBehindMessage,
    GiveBack,
    Stuck,
    Restart,
    Say,
    Take,
    Post,
    PostToPending,
    Claim,
    Reload,
    Nudged,
    Beat,
    Enroll,
    Leave,
    TakeOver,
    CutJournal,
    Act,
    Delete,
    Transact,
}

const DEEDS: [Deed; 26] = {
    use Deed::*;
    [
        Start,
        StartClaimed,
        StartFurnished,
        Entry,
        TwoRuns,
        Finish,
        ParkBare,
        ParkBehindMessage,
        GiveBack,
        Stuck,
        Restart,
        Say,
        Take,
        Post,
        PostToPending,
        Claim,
        Reload,
        Nudged,
        Beat,
        Enroll,
        Leave,
        TakeOver,
        CutJournal,
        Act,
        Delete,
        Transact,
    ]
};

#[allow(clippy::ptr_arg, reason = "what `told` hands over")]
fn started(answers: &Vec<Started>) -> String {
    let each = answers.iter().map(|answer| match answer {
        Started::New(_) => "new",
        Started::Known(..) => "known",
    });
    each.collect::<Vec<_>>().join(",")
}

/// Does it; `arm` is called when all that it needs is there. What it was answered.
async fn does(deed: Deed, world: &World, tag: &str, arm: &mut dyn FnMut()) -> String {
    let store = &world.store;
    let hand = Hand::of(store).await;
    let id = |of: &str| format!("{of}{tag}");
    let own = async |of: &str| hand.start(new_run(&id(of))).await;
    match deed {
        Deed::Start => {
            arm();
            let runs = vec![new_run(&id("a")), new_run(&id("b"))];
            let first = told(&store.start(runs.clone(), None).await, started);
            first + &told(&store.start(runs, None).await, started)
        }
        Deed::StartClaimed | Deed::StartFurnished => {
            let mut run = new_run(&id("a"));
            if matches!(deed, Deed::StartFurnished) {
                run.trace = Some("00-1".into());
                run.letters = vec![letter(1)];
            }
            arm();
            let (answer, mut held) = hand.try_start(vec![run]).await;
            let mut told = told(&answer, started);
            for held in &mut held {
                told += &held.adds(1).await;
            }
            told
        }
        Deed::Entry => {
            let mut held = own("a").await;
            arm();
            held.adds(1).await + &held.adds(2).await
        }
        Deed::TwoRuns => {
            let (mut a, mut b) = (own("a").await, own("b").await);
            arm();
            a.send(Turn { entries: vec![step(1), step(2)], ..a.turn() });
            b.send(Turn { entries: vec![step(1)], ..b.turn() });
            a.send(Turn { entries: vec![step(3)], ..a.turn() });
            [a.hears().await, a.hears().await, b.hears().await, a.adds(4).await].join(",")
        }
        Deed::Finish => {
            let mut held = own("a").await;
            arm();
            let turn = Turn { entries: vec![entry(1, Kind::Completed, "1")], end: finished(), ..held.turn() };
            held.commit(turn).await
        }
        Deed::ParkBare => {
            let mut held = own("a").await;
            arm();
            held.ends(parked()).await
        }
        Deed::ParkBehindMessage => {
            let mut held = own("a").await;
            store.post(post(&id("a"), 1)).await.expect("posts");
            arm();
            held.ends(parked()).await + &held.adds(1).await
        }
        Deed::GiveBack => {
            let mut held = own("a").await;
            arm();
            held.ends(Some(End::GivenBack { wake_at: at(0) })).await
        }
        Deed::Stuck => {
            let mut held = own("a").await;
            let stuck = Stuck { reason: StuckReason::Panicked, key: None, detail: "boom".into() };
            arm();
            held.ends(Some(End::Stuck { stuck, inbox_n: 0, at: at(9) })).await
        }
        Deed::Restart => {
            let mut held = own("a").await;
            held.adds(1).await;
            arm();
            let first = Box::new(entry(0, Kind::Started, "[2]"));
            let told = held.ends(Some(End::Restarted { first })).await;
            let again = store.reload(hand.fence, held.run).await.expect("asks").expect("is ours");
            told + &hand.held(&again).adds(1).await
        }
        Deed::Say => {
            let mut held = own("a").await;
            arm();
            let row = StartedRow { key: "k".into(), attempt: 1, at: at(2), abandoned: false, details: None };
            let says = vec![
                Say::Published { name: "p".into(), body: Payload::json("5"), seq: 1, at: at(1) },
                Say::Emitted { name: "e".into(), n: 0, body: Payload::json("0"), at: at(1) },
            ];
            let turn = Turn { entries: vec![step(1)], marks: vec![Mark::Started(row)], says, ..held.turn() };
            held.commit(turn).await + &held.adds(2).await
        }
        Deed::Take => {
            let mut held = own("a").await;
            store.post(post(&id("a"), 1)).await.expect("posts");
            arm();
            let turn = Turn { entries: vec![step(1)], takes: vec![1], ..held.turn() };
            held.commit(turn).await + &held.adds(2).await
        }
        Deed::Post | Deed::PostToPending => {
            let mut held = None;
            match deed {
                Deed::Post => held = Some(own("a").await),
                _ => drop(store.start(vec![new_run(&id("a"))], None).await.expect("starts")),
            }
            arm();
            let known = |posted: &Posted| format!("{posted:?}");
            let first = told(&store.post(post(&id("a"), 1)).await, known);
            let second = told(&store.post(post(&id("a"), 1)).await, known);
            let nudged = store.nudged(hand.fence).await.expect("asks").len();
            drop(held);
            format!("{first},{second},{nudged}")
        }
        Deed::Claim => {
            store.start(vec![new_run(&id("a")), new_run(&id("b"))], None).await.expect("starts");
            arm();
            let mut told = String::new();
            for (_, mut held) in mine(hand.claims().await, tag) {
                told += &held.adds(1).await;
            }
            told
        }
        Deed::Reload => {
            let mut held = own("a").await;
            arm();
            let again = store.reload(hand.fence, held.run).await.expect("asks").expect("is ours");
            let told = hand.held(&again).adds(1).await;
            told + &held.adds(2).await.contains("has ended").to_string()
        }
        Deed::Nudged => {
            let held = own("a").await;
            store.post(post(&id("a"), 1)).await.expect("posts");
            arm();
            let heard = store.nudged(hand.fence).await.expect("asks");
            let again = store.nudged(hand.fence).await.expect("asks");
            format!("{} {}", heard == [held.run], again.len())
        }
        Deed::Beat => {
            let before = hand.sees(&hand).await;
            arm();
            let renewed = told(&store.beat(hand.fence).await, |()| "renewed".into());
            // A renewal may be made twice: only that it was made counts.
            format!("{renewed} {}", hand.sees(&hand).await > before)
        }
        Deed::Enroll => {
            arm();
            let other = Hand::of(store).await;
            let mut held = other.start(new_run(&id("a"))).await;
            held.adds(1).await
        }
        Deed::Leave => {
            let held = own("a").await;
            arm();
            let left = told(&store.leave(hand.fence).await, |()| "left".into());
            drop(held);
            left + &told(&store.leave(hand.fence).await, |()| "left".into())
        }
        Deed::TakeOver => {
            let other = Hand::of(store).await;
            let mut held = other.start(new_run(&id("a"))).await;
            arm();
            let freed = hand.takes_over(&other).await;
            let taken = mine(hand.claims().await, tag).len();
            format!("{freed} {taken} {}", held.adds(1).await)
        }
        Deed::CutJournal | Deed::Act | Deed::Delete => {
            let mut held = own("a").await;
            let turn = Turn { entries: vec![step(1), entry(2, Kind::Failed, "{}")], ..held.turn() };
            let end = Some(End::Finished { status: Status::Failed, inbox_n: 0, at: at(9) });
            held.commit(Turn { end, ..turn }).await;
            let cut = Cut {
                run: held.run,
                only: StatusSet::ANY,
                inbox_n: 0,
                last: None,
                from: 2,
                letters: vec![letter(5)],
                reopens: vec![],
                why: "retry".into(),
                at: at(6),
            };
            arm();
            match deed {
                Deed::CutJournal => told(&store.cut(cut).await, bool::to_string),
                Deed::Act => {
                    told(&store.act(Does::Cut(cut), act("retry")).await, |acted| format!("{acted:?}"))
                }
                _ => {
                    let run = held.run;
                    let doomed =
                        Doomed { run, status: Status::Failed, generation: 0, inbox_n: 0, began: true };
                    told(&store.delete(vec![doomed]).await, |gone| format!("{gone:?}"))
                }
            }
        }
        Deed::Transact => {
            let mut held = own("a").await;
            arm();
            let transact =
                async |held: &Held| held.transacts("step#1", &world.desk.table("mine"), &id("row")).await;
            let committed = |transacted: &Transacted| match transacted {
                Transacted::Committed { n, .. } => format!("committed {n}"),
                Transacted::RolledBack(error) => error.to_string(),
            };
            let told = told(&transact(&held).await, committed);
            let turn = Turn { entries: vec![step(1)], takes: vec![1], ..held.turn() };
            told + &held.commit(turn).await
        }
    }
}

/// Those of this round.
fn mine(claimed: Vec<(String, Held)>, tag: &str) -> Vec<(String, Held)> {
    claimed.into_iter().filter(|(id, _)| id.ends_with(tag)).collect()
}

/// Cuts each statement of each operation in turn.
async fn every_cut(moment: fn(&str) -> Moment) {
    let world = World::new().await;
    let mut cuts = 0;
    for deed in DEEDS {
        let tag = fresh("-");
        // Twice: the first time makes names.
        does(deed, &world, &fresh("-"), &mut || ()).await;
        let answer = does(deed, &world, &tag, &mut || ()).await;
        let expected = (answer, world.state(&tag).await);
        for nth in 1.. {
            let (tag, mut strike) = (fresh("-"), None::<Strike>);
            let mut arm =
                || strike = Some(world.proxy.at(moment("").if_it(of_the_store).nth(nth), Fault::Cut));
            let answer = does(deed, &world, &tag, &mut arm).await;
            let struck = strike.expect("it is armed").count();
            world.proxy.heal().await;
            assert_eq!((answer, world.state(&tag).await), expected, "{deed:?}, its statement {nth}");
            cuts += struck;
            if struck == 0 {
                assert!(nth > 1, "{deed:?} sends something");
                break;
            }
        }
    }
    assert!(cuts > DEEDS.len(), "{cuts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cut_before_it_is_executed_happens_once() {
    every_cut(Moment::before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cut_while_it_is_executed_happens_once() {
    every_cut(Moment::during).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cut_after_it_was_executed_happens_once() {
    every_cut(Moment::after).await;
}

/// A transaction that is cut before its COMMIT arrives is asked for; so is the answer lost. It must not find itself.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_twice_for_a_lost_commit_does_not_find_his_own_question() {
    let world = World::new().await;
    let hand = Hand::of(&world.store).await;
    let _held = hand.start(new_run("a")).await;
    let commit = world.proxy.at(Moment::before("COMMIT").if_it(|text| text == "COMMIT"), Fault::Cut);
    let asked = world.proxy.at(Moment::after("everstep_commit AS c"), Fault::Cut);
    assert_eq!(world.store.post(post("a", 1)).await.expect("posts"), Posted::Added);
    assert_eq!((commit.count(), asked.count()), (1, 1));
    assert_eq!(world.store.inbox(_held.run, 0).await.expect("reads").len(), 1);
}

/// The server is still at it when the turn is asked for: it has written the first of two entries, and is held up at the
/// second. Who asks waits for it, and finds both.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_waits_for_a_server_that_is_still_at_it() {
    let world = World::new().await;
    let hand = Hand::of(&world.store).await;
    let mut held = hand.start(new_run("a")).await;
    held.adds(1).await;
    let block = format!(
        "INSERT INTO {} (run, seq, at, build, fingerprint, attempt, kind, codec, body) VALUES ({}, 3, 0, 0, 0, 0, 0, 0, '')",
        world.table("journal"),
        held.run.0
    );
    let mut other = another_client().await;
    let blocking = other.transaction().await.expect("begins");
    blocking.batch_execute(&block).await.expect("nobody is there yet");
    held.send(Turn { entries: vec![step(2), step(3)], ..held.turn() });
    world.waiting(1).await;
    world.proxy.set(Fault::Cut);
    world.waiting(2).await;
    blocking.rollback().await.expect("rolls back");
    assert_eq!(held.hears().await, "next 4");
    assert_eq!(held.adds(4).await, "next 5");
}

/// The same of what has no entry: the repeat finds the run parked by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_finds_its_run_parked_was_it_itself() {
    for with_entry in [false, true] {
        let world = World::new().await;
        let hand = Hand::of(&world.store).await;
        let mut held = hand.start(new_run("a")).await;
        let mut other = another_client().await;
        let blocking = other.transaction().await.expect("begins");
        let lock = format!("SELECT 1 FROM {} FOR UPDATE", world.table("run"));
        blocking.batch_execute(&lock).await.expect("locks");
        let entries = if with_entry { vec![step(1)] } else { vec![] };
        held.send(Turn { entries, end: parked(), ..held.turn() });
        world.waiting(1).await;
        world.proxy.set(Fault::Cut);
        world.waiting(2).await;
        blocking.rollback().await.expect("rolls back");
        assert_eq!(held.hears().await, format!("next {}", 1 + u8::from(with_entry)));
    }
}

/// A claim that is committed and not heard of, with the way to the database cut: the runs come when it is there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_reply_was_lost_is_handed_out_after_an_outage() {
    let world = World::new().await;
    let hand = Hand::of(&world.store).await;
    world.store.start(vec![new_run("a")], None).await.expect("starts");
    let cut = world.proxy.at(Moment::after("COMMIT").if_it(|text| text == "COMMIT"), Fault::Cut);
    let refused = world.proxy.refuse();
    let claimed = tokio::spawn(world.store.claim(hand.fence, claim()));
    refused.await;
    cut.happened().await;
    world.proxy.heal().await;
    let claimed = claimed.await.expect("no panic").expect("it is committed");
    assert_eq!(claimed.len(), 1);
    assert_eq!(hand.held(&claimed[0]).adds(1).await, "next 2");
}

/// The load takes the record of a transactional step by itself, before its job knows that it is committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_record_was_taken_meanwhile_is_not_made_again() {
    let world = World::new().await;
    let hand = Hand::of(&world.store).await;
    let mut held = hand.start(new_run("a")).await;
    let mine = world.desk.table("mine");
    // Both ways to the database are there by then: new ones are refused from here on.
    held.transacts("first", &mine, "1").await.expect("commits");
    let first = world.store.inbox(held.run, 0).await.expect("reads");
    let row = world.store.run("a".into()).await.expect("reads").expect("is there");
    world.proxy.refuse().await;
    let cut = world.proxy.at(Moment::after("COMMIT").if_it(|text| text == "COMMIT"), Fault::Cut);
    let (run, load) = (held.run, held.load);
    let job = {
        let (hand, mine) = (hand.clone(), mine.clone());
        let claimed = everstep_core::store::Claimed { row, load };
        tokio::spawn(async move { hand.held(&claimed).transacts("step#1", &mine, "2").await })
    };
    cut.happened().await;
    let taken = Turn { entries: vec![step(1)], takes: vec![first.len() as u64 + 1], ..held.turn() };
    assert_eq!(held.commit(taken).await, "next 2");
    world.proxy.heal().await;
    assert!(matches!(job.await.expect("no panic"), Ok(Transacted::Committed { .. })));
    let rows = world.text(&format!("SELECT string_agg(text, ',' ORDER BY text) FROM {mine}")).await;
    assert_eq!(rows, "1,2");
    assert_eq!(world.store.inbox(run, 0).await.expect("reads").len(), 1, "of the first step alone");
}

/// The reply of a turn is held back, and another worker takes over: what was committed is there once, and the stale
/// worker hears that it is fenced.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_before_the_reply_finds_what_was_committed() {
    let world = World::new().await;
    let (hand, near) = (Hand::of(&world.store).await, world.desk.open().await);
    let mut held = hand.start(new_run("a")).await;
    let lost = world.proxy.at(Moment::after("everstep_journal"), Fault::Hold(Direction::ToClient));
    held.send(Turn { entries: vec![step(1)], ..held.turn() });
    lost.happened().await;
    let other = Hand::of(&near).await;
    assert_eq!(other.takes_over(&hand).await, 1);
    world.proxy.set(Fault::Cut);
    world.proxy.heal().await;
    assert_eq!(held.hears().await, "fenced");
    let mut claimed = other.claims().await;
    assert_eq!(claimed[0].1.adds(2).await, "next 3");
    assert_eq!(held.adds(3).await, "fenced");
}

/// What a stale worker sent arrives after the takeover: nothing of it is written.
#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_after_a_takeover_is_not_written() {
    let world = World::new().await;
    let (hand, near) = (Hand::of(&world.store).await, world.desk.open().await);
    let mut held = hand.start(new_run("a")).await;
    held.adds(1).await;
    let late = world.proxy.at(Moment::before("everstep_journal"), Fault::Hold(Direction::Both));
    held.send(Turn { entries: vec![step(2)], ..held.turn() });
    late.happened().await;
    let other = Hand::of(&near).await;
    assert_eq!(other.takes_over(&hand).await, 1);
    world.proxy.heal().await;
    assert_eq!(held.hears().await, "fenced");
    assert_eq!(other.claims().await[0].1.adds(2).await, "next 3");
}

/// The server is still committing when the step is tried again, for as long as it likes: the body of the second try meets
/// the rows of the first, and fails. That is no failure of the step's.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_commit_comes_late_is_not_told_that_it_failed() {
    let desk = Desk::new();
    let proxy = Proxy::start(&Desk::url()).await.expect("listens");
    let store = desk.options().open(&proxy.url_of("postgres")).await.expect("opens");
    let held = Hand::of(&store).await.start(new_run("a")).await;
    let [table, gate, waits] = ["sold", "gate", "waits"].map(|name| desk.table(name));
    desk.run_sql(&format!(
        "CREATE TABLE {table} (text text PRIMARY KEY); CREATE TABLE {gate} (n int);
         CREATE FUNCTION {waits}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 FROM {gate}; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION {waits}()"
    ));
    let (mut other, look) = (desk.connects().await, desk.connects().await);
    let closed = other.transaction().await.expect("begins");
    closed.batch_execute(&format!("LOCK TABLE {gate} IN ACCESS EXCLUSIVE MODE")).await.expect("locks");
    let cut = proxy.at(Moment::during("COMMIT").behind("everstep_inbox"), Fault::Cut);
    let step = tokio::spawn(async move { held.transacts("k", &table, "once").await });
    cut.happened().await;
    // The commit waits at the gate, and the second try for what becomes of it.
    let schema = format!("%{}%", desk.table("").trim_end_matches('.'));
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid()
                   AND (query LIKE $1 OR query = 'COMMIT')";
    while look.query_one(waiting, &[&schema]).await.expect("looks").get::<_, i64>(0) < 2 {}
    closed.rollback().await.expect("opens the gate");
    let told = step.await.expect("no panic").expect("is told");
    assert!(matches!(told, Transacted::Committed { .. }), "{told:?}");
    let rows = format!("SELECT count(*) FROM {}", desk.table("sold"));
    assert_eq!(look.query_one(&rows, &[]).await.expect("looks").get::<_, i64>(0), 1);
}
