//! How large the tables and indexes are, and how many rows of them are dead.

use everstep_postgres::tokio_postgres::Client;

use crate::actor::AnyResult;

const TABLES: &str = "SELECT relname::text, pg_table_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, \
     n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = 'everstep' ORDER BY relname";
const INDEXES: &str = "SELECT indexrelname::text, pg_relation_size(indexrelid), idx_scan, idx_tup_read \
     FROM pg_stat_user_indexes WHERE schemaname = 'everstep' ORDER BY indexrelname";

/// A table, or an index.
#[derive(Clone, Debug)]
pub(super) enum Space {
    Table { name: String, heap: u64, indexes: u64, live: i64, dead: i64, updates: i64, hot: i64 },
    Index { name: String, bytes: u64, scans: i64, read: i64 },
}

/// As of now; the counts are the server's estimates.
pub(super) async fn read(client: &Client) -> AnyResult<Vec<Space>> {
    let mut sizes = Vec::new();
    for row in client.query(TABLES, &[]).await? {
        let [heap, indexes] = [1, 2].map(|at| row.get::<_, i64>(at).cast_unsigned());
        let [live, dead, updates, hot] = [3, 4, 5, 6].map(|at| row.get(at));
        sizes.push(Space::Table { name: row.get(0), heap, indexes, live, dead, updates, hot });
    }
    for row in client.query(INDEXES, &[]).await? {
        let bytes = row.get::<_, i64>(1).cast_unsigned();
        sizes.push(Space::Index { name: row.get(0), bytes, scans: row.get(2), read: row.get(3) });
    }
    Ok(sizes)
}

/// Of all tables and their indexes.
pub(super) fn bytes(sizes: &[Space]) -> u64 {
    let of = |size: &Space| match size {
        Space::Table { heap, indexes, .. } => heap + indexes,
        Space::Index { .. } => 0,
    };
    sizes.iter().map(of).sum()
}

/// For people: what there was and is, in KiB. Those that nobody has used are left out.
pub(super) fn tell(before: &[Space], after: &[Space]) {
    println!(
        "{:<26} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "table", "KiB", "then", "indexes", "then", "live", "then", "dead", "then", "updates", "in place"
    );
    for (before, after) in before.iter().zip(after) {
        match (before, after) {
            (
                Space::Table { heap: h, indexes: i, live: l, dead: d, .. },
                Space::Table { name, heap, indexes, live, dead, updates, hot },
            ) if live + dead > 0 => {
                let [h, heap, i, indexes] = [h, heap, i, indexes].map(|bytes| bytes >> 10);
                println!(
                    "{name:<26} {h:>9} {heap:>9} {i:>9} {indexes:>9} {l:>9} {live:>9} {d:>9} {dead:>9} {updates:>9} {hot:>9}"
                );
            }
            (Space::Index { bytes: b, .. }, Space::Index { name, bytes, scans, read }) if *scans > 0 => {
                let each = *read as f64 / *scans as f64;
                let [b, bytes] = [b, bytes].map(|bytes| bytes >> 10);
                println!("{name:<26} {b:>9} {bytes:>9}; {scans} scans, {each:.1} rows each");
            }
            _ => {}
        }
    }
}
