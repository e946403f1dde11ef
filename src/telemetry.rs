//! The log and what becomes of panics. Set up once by `main`; the supervisor asks it why an actor
//! panicked. Knows nothing of events, stores or HTTP.
//!
//! The log goes to stdout and, where a directory is given, to a file a day in it. Stderr is kept
//! for the one line that says why the process ended.

use std::{
    cell::{Cell, RefCell},
    fs,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    path::PathBuf,
    thread,
};
use tracing::Subscriber;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{
    EnvFilter, Layer, filter::ParseError, fmt, fmt::MakeWriter, layer::SubscriberExt, registry,
};

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event: timestamp, level, target and the event's fields beside them.
    Json,
}

/// Where the log is kept besides: one file a day (of UTC), always as JSON.
#[derive(Debug, Clone)]
pub struct LogFiles {
    /// Made where it is not there yet.
    pub directory: PathBuf,
    /// Files that are kept; the oldest goes when a new one begins.
    pub files_max: usize,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("failed to read the log filter")]
    Filter(#[from] ParseError),
    /// The log files cannot be written.
    #[error("LOG_DIR (--log-dir): {0}")]
    Files(#[source] io::Error),
    /// Something else of this process takes the log already.
    #[error("failed to install the log")]
    Installed(#[from] tracing::dispatcher::SetGlobalDefaultError),
}

/// Starts the log of this process and sends panics to it.
///
/// A stdout that is closed, or a disk that is full, loses lines and nothing else.
///
/// # Errors
/// [`TelemetryError`]; where it is set up already, nothing changes.
pub fn init(
    format: LogFormat,
    filter: &str,
    files: Option<&LogFiles>,
) -> Result<(), TelemetryError> {
    let is_terminal = io::stdout().is_terminal();
    let files = files.map(appender).transpose()?;
    let log = subscriber(format, filter, is_terminal, io::stdout, files)?;
    tracing::subscriber::set_global_default(log)?;
    panic::set_hook(Box::new(observe_panic));
    Ok(())
}

fn appender(files: &LogFiles) -> Result<RollingFileAppender, TelemetryError> {
    // The appender would complain of a missing directory on stderr before it makes it.
    fs::create_dir_all(&files.directory).map_err(TelemetryError::Files)?;
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("oncelog")
        .filename_suffix("log")
        .max_log_files(files.files_max)
        .build(&files.directory)
        .map_err(|error| TelemetryError::Files(io::Error::other(error)))
}

fn subscriber(
    format: LogFormat,
    filter: &str,
    is_terminal: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
    files: Option<RollingFileAppender>,
) -> Result<Box<dyn Subscriber + Send + Sync>, ParseError> {
    let shown = fmt::layer()
        .with_writer(writer)
        .with_ansi(is_terminal)
        // It would report a failed write with eprintln!, which panics where stderr is closed, too.
        .log_internal_errors(false);
    let shown = match format {
        LogFormat::Text => shown.boxed(),
        LogFormat::Json => shown.json().flatten_event(true).boxed(),
    };
    let kept = files.map(|files| {
        fmt::layer()
            .with_writer(files)
            .with_ansi(false)
            .log_internal_errors(false)
            .json()
            .flatten_event(true)
    });
    let log = registry().with(EnvFilter::try_new(filter)?);
    Ok(Box::new(log.with(shown).with(kept)))
}

/// What a panic said, and where in the source it happened: the first for anybody, the second for
/// the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// Its message.
    pub message: String,
    /// `file:line:column`.
    pub location: String,
}

thread_local! {
    static LAST_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
    static QUIET_DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The latest panic of this thread, once.
///
/// `None` where there was none since the last call, or before [`init`].
pub fn take_last_panic() -> Option<Panic> {
    LAST_PANIC.with_borrow_mut(Option::take)
}

/// Runs `work` without logging its panics, for a caller that catches and logs them itself.
///
/// They are remembered for [`take_last_panic`] all the same. Panics of other threads that `work`
/// starts are logged.
pub fn quiet_panics<T>(work: impl FnOnce() -> T) -> T {
    /// Counts down on the way out, which may be the panic's.
    struct Quiet;
    impl Drop for Quiet {
        fn drop(&mut self) {
            QUIET_DEPTH.set(QUIET_DEPTH.get() - 1);
        }
    }
    QUIET_DEPTH.set(QUIET_DEPTH.get() + 1);
    let _quiet = Quiet;
    work()
}

/// The panic hook. Must not panic itself: that would abort the process.
fn observe_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    // A thread that ends has no thread-locals left; its panic is logged like any other.
    let is_quiet = QUIET_DEPTH.try_with(Cell::get).unwrap_or_default() > 0;
    let _ = LAST_PANIC.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(Panic {
                message: message.to_owned(),
                location: location.clone(),
            });
        }
    });
    if !is_quiet {
        let thread = thread::current();
        // The message is a field and no format argument, so that its line breaks are escaped.
        tracing::error!(
            panic = message,
            location,
            thread = thread.name().unwrap_or("unnamed"),
            "thread panicked"
        );
    }
}

/// The hook for tests that look at panics. Theirs are remembered, and what nobody catches is shown
/// as ever. The hook is the process's and stays.
#[cfg(test)]
pub(crate) fn remember_panics_in_tests() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            observe_panic(info);
            if QUIET_DEPTH.get() == 0 {
                shown(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    /// A place to write to that can be read.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = subscriber(format, filter, false, move || writer.clone(), None).unwrap();
        tracing::subscriber::with_default(log, work);
        lines.text()
    }

    fn observed<T>(work: impl FnOnce() -> T) -> T {
        remember_panics_in_tests();
        work()
    }

    #[test]
    fn json_is_one_object_a_line_with_flat_fields() {
        let text = logged(LogFormat::Json, "info", || {
            tracing::info!(shard = 3, text = "a\nb", "hello");
            tracing::debug!("not this");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["shard"], 3);
        assert_eq!(line["text"], "a\nb");
        assert_eq!(line["message"], "hello");
        assert_eq!(line["target"], "oncelog::telemetry::tests");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn text_has_no_colours_where_nobody_sees_them() {
        let text = logged(LogFormat::Text, "info", || {
            tracing::warn!(shard = 3, "hello")
        });
        assert!(
            text.contains("WARN") && text.contains("hello shard=3"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_closed_stdout_is_no_reason_to_panic() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = subscriber(format, "info", false, || Closed, None).unwrap();
            tracing::subscriber::with_default(log, || tracing::info!("into the void"));
        }
    }

    #[test]
    fn a_wrong_filter_is_an_error() {
        assert!(matches!(
            init(LogFormat::Text, "oncelog=loud", None),
            Err(TelemetryError::Filter(_))
        ));
    }

    #[test]
    fn a_panic_is_one_line_and_can_be_asked_for_once() {
        let text = logged(LogFormat::Text, "info", || {
            observed(|| {
                let _ = panic::catch_unwind(|| panic!("first\nsecond"));
                let last = take_last_panic().unwrap();
                assert_eq!(last.message, "first\nsecond");
                assert!(last.location.starts_with("src/telemetry.rs:"), "{last:?}");
                assert_eq!(take_last_panic(), None);
            });
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("first\\nsecond") && text.contains("telemetry.rs"),
            "{text}"
        );
    }

    #[test]
    fn a_quiet_panic_is_remembered_and_not_logged() {
        let text = logged(LogFormat::Text, "info", || {
            observed(|| {
                let caught = panic::catch_unwind(|| quiet_panics(|| panic!("hush")));
                assert!(caught.is_err());
                assert_eq!(take_last_panic().unwrap().message, "hush");
                let _ = panic::catch_unwind(|| panic!("loud"));
            });
        });
        assert!(text.contains("loud") && !text.contains("hush"), "{text}");
    }
}
