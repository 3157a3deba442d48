//! A transaction's body runs on the writer's thread and cannot borrow.
use everstep::{Ctx, Result, sqlite::Transaction as _};

pub async fn workflow(ctx: Ctx, name: String) -> Result<usize> {
    ctx.transaction("insert", |tx| Ok(tx.execute("INSERT INTO t VALUES (?1)", [&name])?)).await
}

fn main() {}
