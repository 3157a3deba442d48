//! The shared server by hand.

use std::process::ExitCode;

use everstep_cluster::{Cluster, Error, Programs, Settings};

const HELP: &str = "\
everstep-cluster COMMAND

  install   makes sure that there is a server to start: installed, or fetched
  start     starts the server that tests share, keeps it until it is stopped, and prints its URL
  url       as `start`, but it ends by itself when it was not used for a minute
  stop      stops it
  private   starts one of its own, prints its URL, and ends it when the input ends";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    match run(&command) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str) -> Result<String, Error> {
    match command {
        "install" => {
            let programs = Programs::get(None)?;
            Ok(format!("PostgreSQL {} in {}", programs.major(), programs.folder().display()))
        }
        "start" => {
            let cluster = Cluster::shared()?;
            cluster.keep()?;
            Ok(cluster.url("postgres"))
        }
        "url" => Ok(Cluster::shared()?.url("postgres")),
        "stop" => Ok(format!("{} stopped", Cluster::stop_shared()?)),
        "private" => {
            let cluster = Cluster::private(Settings::default())?;
            println!("{}", cluster.url("postgres"));
            // Also a broken input is an end.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            Ok("ended".to_string())
        }
        _ => Ok(HELP.to_string()),
    }
}
