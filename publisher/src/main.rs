//! A producer for oncelog: sends a seeded workload with repeats over HTTP or through Redis, keeps its
//! own account of it, and compares that with the server's. Speaks to the server as an outsider.

mod account;
mod api;
mod chaos;
mod cli;
mod progress;
mod report;
mod run;
mod transport;
mod verify;
mod workload;

use api::Api;
use clap::Parser;
use cli::{Arguments, Options};
use report::say;
use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};
use transport::Transport;
use workload::Workload;

/// Something differs, or could not be done.
const EXIT_DIFFERS: u8 = 1;
/// The command line is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = match Arguments::parse().resolve() {
        Ok(options) => options,
        Err(reason) => {
            complain(&reason);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(publish(options)),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_DIFFERS),
        Err(reason) => {
            complain(&reason);
            ExitCode::from(EXIT_DIFFERS)
        }
    }
}

/// Says whether all went well.
async fn publish(options: Options) -> Result<bool, String> {
    let api = Api::new(&options)?;
    api.wait_until_healthy(options.wait).await?;
    let workload = Arc::new(Workload::new(options.workload()));
    let transport = Transport::new(&options, &api)?;
    say(&format!(
        "seed {}: {} events, {} of them repeats, run {}",
        options.seed,
        workload.sends(),
        workload.sends() - workload.unique(),
        options.run_id
    ));
    let before = match options.verify {
        true => Some(verify::Before::look(&api, &workload).await?),
        false => None,
    };
    let chaos = match options.chaos {
        true => Some(chaos::Chaos::start(&api, &options).await?),
        false => None,
    };
    let outcome = run::run(&options, &workload, transport.clone()).await;
    report::print(&options, &workload, &outcome);
    if outcome.is_cut_short {
        return Ok(false);
    }
    let checks = async {
        let mut is_good = outcome.account.errors == 0 && !outcome.is_interrupted;
        if let Some(chaos) = chaos {
            let crashes = chaos.stop().await?;
            is_good &= crashes.print(&outcome.account);
        }
        if let Some(before) = before {
            is_good &= verify::compare(&api, &transport, &workload, &before, &outcome).await?;
        }
        Ok(is_good)
    };
    tokio::select! {
        is_good = checks => is_good,
        _ = tokio::signal::ctrl_c() => Err("interrupted before all was compared".to_owned()),
    }
}

/// The one line that says why it ended early.
fn complain(reason: &str) {
    let _ = writeln!(io::stderr(), "oncelog-publisher: {reason}");
}
