//! Chaos: crashes random actors through the admin API while the run goes on.

use crate::{
    account::Account,
    api::{Actor, Api},
    cli::Options,
    report::say,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How long the last restarts may take to show.
const LAST_RESTARTS: Duration = Duration::from_secs(5);

/// A running chaos.
pub(crate) struct Chaos {
    api: Api,
    before: Vec<Actor>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    taken: u64,
    already_restarting: u64,
    failed: Vec<String>,
}

/// What the chaos has done.
pub(crate) struct Crashes {
    asked: Asked,
    restarts: u64,
}

impl Chaos {
    pub(crate) async fn start(api: &Api, options: &Options) -> Result<Self, String> {
        let before = api.actors().await?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(crash(
            api.clone(),
            before.clone(),
            StdRng::seed_from_u64(options.seed),
            Duration::from_secs_f64(1.0 / options.chaos_rate),
            stopped,
        ));
        Ok(Self {
            api: api.clone(),
            before,
            stop,
            task,
        })
    }

    /// Ends it, and waits for the last actor to come back.
    pub(crate) async fn stop(self) -> Result<Crashes, String> {
        let _ = self.stop.send(());
        let asked = self.task.await;
        let asked = asked.map_err(|error| format!("the chaos has ended early: {error}"))?;
        let mut crashes = Crashes { asked, restarts: 0 };
        let settled = async {
            loop {
                crashes.restarts = restarts(&self.api.actors().await?, &self.before);
                if crashes.restarts >= crashes.asked.taken {
                    return Ok::<_, String>(());
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        // A crash before or after the next commit waits for one, which may not come any more.
        timeout(LAST_RESTARTS, settled).await.unwrap_or(Ok(()))?;
        Ok(crashes)
    }
}

fn restarts(now: &[Actor], before: &[Actor]) -> u64 {
    let earlier = |name: &str| {
        let actor = before.iter().find(|actor| actor.name == name);
        actor.map_or(0, |actor| actor.restarts)
    };
    now.iter()
        .map(|actor| actor.restarts.saturating_sub(earlier(&actor.name)))
        .sum()
}

async fn crash(
    api: Api,
    actors: Vec<Actor>,
    mut random: StdRng,
    pause: Duration,
    mut stopped: oneshot::Receiver<()>,
) -> Asked {
    let mut asked = Asked::default();
    loop {
        let Some(actor) = actors.choose(&mut random) else {
            return asked;
        };
        match api.crash(&actor.name, &order(actor, &mut random)).await {
            Ok(StatusCode::ACCEPTED) => asked.taken += 1,
            Ok(StatusCode::CONFLICT) => asked.already_restarting += 1,
            Ok(status) => asked.failed.push(format!("{}: {status}", actor.name)),
            Err(why) => asked.failed.push(format!("{}: {why}", actor.name)),
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut stopped => return asked,
        }
    }
}

/// A random way to die that this actor knows.
fn order(actor: &Actor, random: &mut StdRng) -> Value {
    let ways = if actor.kind == "persist" { 5 } else { 2 };
    match random.random_range(0..ways) {
        0 => json!({ "mode": "panic" }),
        1 => json!({ "mode": "stop" }),
        2 => json!({ "mode": "panic", "at": "idle" }),
        3 => json!({ "mode": "panic", "at": "before-commit" }),
        _ => json!({ "mode": "panic", "at": "after-commit" }),
    }
}

impl Crashes {
    /// Reports, and says whether no client has noticed anything.
    pub(crate) fn print(&self, account: &Account) -> bool {
        let Asked {
            taken,
            already_restarting,
            failed,
        } = &self.asked;
        say(&format!(
            "crashes: {taken} asked for, {already_restarting} of an actor that was down already, {} restarts seen",
            self.restarts
        ));
        for why in failed.iter().take(5) {
            say(&format!("  crash failed: {why}"));
        }
        say(&format!("client errors: {}", account.failed_attempts));
        account.failed_attempts == 0 && failed.is_empty() && *taken > 0
    }
}
