//! One process of a test; see `everstep_processes::actor`.

#[tokio::main]
async fn main() -> everstep_processes::actor::AnyResult<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match everstep_processes::actor::act(&args).await {
        Some(result) => result,
        None => Err(everstep_processes::actor::USAGE.into()),
    }
}
