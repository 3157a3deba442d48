//! Databases in the middle of a copy, and behind it: who opens them.

use everstep_core::{
    Copying,
    store::{CopyId, CopyMark, CopyStage, Durability, Inspect, Posted, Store, StoreError, Transfer},
};
use everstep_sqlite::{Options, Sqlite, insert_letter, insert_start};

use crate::fixture::{Desk, Worker, at, go, new_run, signal};

async fn marked(store: &Sqlite, from: Option<CopyStage>, to: Option<CopyStage>) {
    let mark = |stage| CopyMark { copy: CopyId(1), stage, other: "other.db".into(), at: at(0) };
    store.set_copy_mark(from.map(mark), to.map(mark)).await.expect("marks");
}

fn ordinary() -> Options {
    Sqlite::options().durability(Durability::Process)
}

/// What becomes of an ordinary opening, one by force, and one of a copy.
fn openings(desk: &Desk) -> [&'static str; 3] {
    [ordinary(), ordinary().accept_moved(true), ordinary().for_copy(true)].map(|options| {
        match options.open(desk.path()) {
            Ok(_) => "opens",
            Err(StoreError::Moved(why)) if why.contains("being copied to `other.db`") => "leaves",
            Err(StoreError::Moved(why)) if why.contains("have moved to `other.db`") => "has moved",
            Err(StoreError::Moved(why)) if why.contains("into this store from `other.db`") => "arrives",
            Err(other) => panic!("{other}"),
        }
    })
}

#[tokio::test]
async fn a_database_in_a_copy_opens_only_for_who_says_so() {
    use CopyStage as S;
    let desk = Desk::new();
    let store = desk.open();
    store.start(vec![new_run("a")], None).await.expect("starts");
    assert_eq!(openings(&desk), ["opens", "opens", "opens"]);
    marked(&store, None, Some(S::Leaving)).await;
    assert_eq!(openings(&desk), ["leaves", "leaves", "opens"]);
    marked(&store, Some(S::Leaving), Some(S::Moved)).await;
    assert_eq!(openings(&desk), ["has moved", "opens", "opens"]);
    drop(store);
    assert_eq!(openings(&desk), ["has moved", "opens", "opens"], "also when nobody else has it open");
    let empty = Desk::new();
    marked(&empty.open(), None, Some(S::Arriving)).await;
    assert_eq!(openings(&empty), ["arrives", "arrives", "opens"]);
}

#[tokio::test]
async fn a_database_that_was_opened_by_force_goes_on() {
    let desk = Desk::new();
    let store = desk.open();
    store.start(vec![new_run("a")], None).await.expect("starts");
    marked(&store, None, Some(CopyStage::Leaving)).await;
    marked(&store, Some(CopyStage::Leaving), Some(CopyStage::Moved)).await;
    let forced = ordinary().accept_moved(true).open(desk.path()).expect("opens");
    Worker::of(&forced).await;
    assert_eq!(signal(&forced, "a", 1).await, Posted::Added);
    let looks = ordinary().for_copy(true).open(desk.path()).expect("opens");
    let refused = looks.start(vec![new_run("b")], None).await;
    assert!(matches!(refused, Err(StoreError::Moved(_))), "who looks does not write: {refused:?}");
    assert!(looks.run("a".into()).await.expect("reads").is_some());
}

#[tokio::test]
async fn a_transaction_of_the_users_own_starts_nothing_in_a_database_that_has_moved() {
    let desk = Desk::new();
    let store = desk.open();
    store.start(vec![new_run("a")], None).await.expect("starts");
    marked(&store, None, Some(CopyStage::Leaving)).await;
    let mut own = desk.outside();
    let tx = own.transaction().expect("begins");
    let started = insert_start(&tx, &new_run("b")).map(drop);
    let sent = insert_letter(&tx, &go("a", 1)).map(drop);
    for refused in [started, sent] {
        assert!(matches!(&refused, Err(StoreError::Moved(why)) if why.contains("`other.db`")), "{refused:?}");
    }
    tx.commit().expect("commits the rest");
    assert_eq!(desk.number("SELECT count(*) FROM everstep_run"), 1);
    assert_eq!(desk.number("SELECT count(*) FROM everstep_inbox"), 0);
}

/// What people see of it with `sqlite3`: kept counts, names by number, the timeline.
#[tokio::test]
async fn a_copied_database_is_one_like_any() {
    let (desk, other) = (Desk::new(), Desk::new());
    let store = desk.open();
    let worker = Worker::of(&store).await;
    let load = worker.start("a").await;
    load.send(1..4);
    load.finish(4, 0);
    store.leave(worker.fence).await.expect("leaves");
    let to = other.open();
    let copying = Copying::new(std::sync::Arc::new(store), std::sync::Arc::new(to));
    copying.run(|_| {}).await.expect("copies");
    let timeline = "SELECT group_concat(run || seq || time || ifnull(key, '') || what || ifnull(line, ''))
                    FROM everstep_timeline";
    let told =
        |desk: &Desk| desk.outside().query_row(timeline, [], |row| row.get::<_, String>(0)).expect("reads");
    assert_eq!(told(&desk), told(&other));
    assert_eq!(other.number("SELECT sum(n) FROM everstep_run_count"), 1);
    assert_eq!(other.number("SELECT value FROM everstep_meta WHERE key = 'run'"), 1);
}
