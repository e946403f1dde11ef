//! The oncelog binary: reads the command line, runs what it asks for, and turns the end into an
//! exit code and at most one line on stderr.

use mimalloc::MiMalloc;
use oncelog::{
    app,
    config::{Cli, Command, Config, HealthcheckConfig, TailConfig},
    healthcheck,
    store::StoreError,
    tail, telemetry,
    tls::TlsError,
};
use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

/// The C library's takes a slow way for all above 1 KiB, and each request has several such pieces.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The settings are wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse_from(env::args_os(), |name| env::var_os(name)) {
        Ok(Command::Serve(config)) => serve(*config),
        Ok(Command::Tail(config)) => print_tail(*config),
        Ok(Command::Healthcheck(config)) => check_health(config),
        Ok(Command::Help(text)) => {
            // Whoever closed stdout does not want to read it.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn serve(config: Config) -> ExitCode {
    let files = config.log_files.as_ref();
    if let Err(error) = telemetry::init(config.log_format, &config.log_filter, files) {
        complain(&error.to_string());
        return ExitCode::from(EXIT_USAGE);
    }
    match actix::System::new().block_on(app::serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            // Some settings are only known to be wrong once they are used.
            let is_misconfigured = error.is::<TlsError>()
                || matches!(error.downcast_ref(), Some(StoreError::Misconfigured { .. }));
            match is_misconfigured {
                true => ExitCode::from(EXIT_USAGE),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn print_tail(config: TailConfig) -> ExitCode {
    match tail::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{:#}", anyhow::Error::from(error)));
            ExitCode::FAILURE
        }
    }
}

fn check_health(config: HealthcheckConfig) -> ExitCode {
    match healthcheck::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("unhealthy: {:#}", anyhow::Error::from(error)));
            ExitCode::FAILURE
        }
    }
}

/// The one line that says why the process ended; what a cause has of further lines is joined.
fn complain(reason: &str) {
    let line: Vec<&str> = reason.lines().map(str::trim).collect();
    let _ = writeln!(io::stderr(), "oncelog: {}", line.join(" "));
}
