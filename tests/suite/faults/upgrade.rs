//! An upgrade of replicas from an older version, one after the other, under load, and back again.
//! `scripts/check-upgrade.sh` builds the older one and runs this.

use super::{
    clients::{Clients, takes_part},
    seed,
};
use crate::support::{Balancer, Database, PostgresServer, RedisServer, TestApp, oncelog};
use std::{env, path::Path, sync::Arc};

#[tokio::test]
#[ignore = "needs an older version, as OLD_ONCELOG: scripts/check-upgrade.sh builds one"]
async fn replicas_are_upgraded_under_load_and_back() {
    let old = env::var_os("OLD_ONCELOG").expect("the path of an older version");
    let old = Path::new(&old);
    let new = oncelog();
    let new = Path::new(new.get_program());
    let seed = seed();
    let postgres = PostgresServer::start().await;
    let redis = RedisServer::start().await;
    let database = Arc::new(Database::at(postgres.url("postgres")));
    let start = || {
        TestApp::on(Arc::clone(&database))
            .program(old)
            .set("REDIS_URL", redis.url())
            .start()
    };
    let (mut first, mut second) = (start().await, start().await);
    let balancer = Balancer::start(&[first.address(), second.address()]).await;
    let clients = Clients::start(seed, &balancer, &redis).await;
    clients.go_on().await;
    let before = migrations(&database).await;

    // The new one migrates under the load of the old one, and they share it.
    first.becomes(new).await;
    takes_part(&first).await;
    let after = migrations(&database).await;
    clients.go_on().await;
    // An old one may die meanwhile, and be started again on the newer schema.
    second.kill9().await;
    second.restart().await;
    takes_part(&second).await;
    clients.go_on().await;
    // The upgrade is taken back.
    first.becomes(old).await;
    takes_part(&first).await;
    clients.go_on().await;
    // And done.
    for replica in [&mut first, &mut second] {
        replica.becomes(new).await;
        takes_part(replica).await;
        clients.go_on().await;
    }
    clients.finish(&[&first, &second], &balancer).await;
    eprintln!("migrations: {before} in the old version, {after} in the new one");
}

async fn migrations(database: &Database) -> i64 {
    database
        .number("select max(version) from _sqlx_migrations")
        .await
}
