//! Promise 1: `kill -9` of the service or of Postgres, at random moments and under load, loses nothing that was
//! acknowledged, leaves nothing half done, and needs no hand afterwards.
//!
//! Several clients create workers, isolate them and give them keys, most with an Idempotency-Key for each command, and
//! write down what they were told. Then the log is read in the database itself and compared with what they wrote down;
//! what nobody knows is asked for again and has to settle.
//!
//! The clients without Idempotency-Keys are there for the writer itself: what it cannot know, because the connection died
//! between the commit and its answer, it has to find out, and no repeat of a caller's does that for it.

pub(crate) mod load;

use std::time::Duration;

use portcullis::postgres::embedded::{DATABASE, OWNER, socket_url};

use self::load::{Load, Log};
use crate::support::cluster::{FROZEN, PrivateCluster, Scratch, free_port, kill_server, shared_socket};
use crate::support::proxy::{Cut, Proxy};
use crate::support::service::{Launch, Service};

const ROUNDS: usize = 8;
const CLIENTS: usize = 6;
const CUTS: usize = 12;
/// After each fault so many further commands have to get through before the next one: it must come back by itself.
const PROGRESS: usize = 12;

/// The pause before a fault: long enough for some load, and never the same moment twice.
async fn a_random_while() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(20..700))).await;
}

/// Starts the service anew on the files of the one that was killed. It has to come up at the first attempt.
async fn kill_and_start(service: &mut Service, launch: Launch) {
    let launch = launch.data_dir_of(service);
    service.kill();
    *service = launch.start().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_embedded_postgres_nothing_acknowledged_is_lost() {
    let port = free_port();
    let mut service = Launch::embedded().port(port).start().await;
    let load = Load::start(&service, CLIENTS);
    for round in 0..ROUNDS {
        a_random_while().await;
        if round % 2 == 0 {
            kill_and_start(&mut service, Launch::embedded().port(port)).await;
        } else {
            // At a random moment; or with an append certainly on its way, whose fate nobody is told.
            let frozen = if round % 4 == 1 { FROZEN } else { Duration::ZERO };
            kill_server(&service.file("postgres"), frozen);
        }
        load.progress(PROGRESS, &format!("after round {round}")).await;
    }
    let mut told = load.stop().await;
    // Whatever is in flight dies with the service, so that the log that is read is at rest.
    kill_and_start(&mut service, Launch::embedded().port(port)).await;
    let url = socket_url(&service.file("run"), 5432, OWNER, DATABASE);
    told.check(&Log::read(&url).await);
    told.settle(&service, &url).await;
    assert!(service.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_database_of_its_own_nothing_acknowledged_is_lost() {
    let port = free_port();
    let mut cluster = PrivateCluster::start().await;
    let (url, owner_url) = (cluster.url(), cluster.owner_url());
    let launch = || Launch::on_urls(&url, &owner_url).port(port);
    let mut service = launch().start().await;
    let load = Load::start(&service, CLIENTS);
    for round in 0..ROUNDS {
        a_random_while().await;
        match round % 3 {
            0 => {
                if round % 2 == 0 {
                    cluster.freeze_and_kill();
                } else {
                    cluster.kill();
                }
                cluster.restart().await;
            }
            1 => kill_and_start(&mut service, launch()).await,
            _ => {
                cluster.kill();
                service.kill();
                cluster.restart().await;
                kill_and_start(&mut service, launch()).await;
            }
        }
        load.progress(PROGRESS, &format!("after round {round}")).await;
    }
    let mut told = load.stop().await;
    kill_and_start(&mut service, launch()).await;
    told.check(&Log::read(&owner_url).await);
    told.settle(&service, &owner_url).await;
    assert!(service.stop());
}

/// The faults of a `kill -9` that its moments seldom hit, each of them for certain: an append that never arrived, one that
/// is in the log though its answer is lost, and one that arrives when the writer has already come back.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_became_of_an_append_the_writer_finds_out() {
    let scratch = Scratch::new().await;
    let proxy = Proxy::start(shared_socket()).await;
    let mut service = Launch::on_urls(&scratch.url_on(proxy.port), &scratch.owner_url()).start().await;
    let load = Load::start(&service, CLIENTS);
    for round in 0..CUTS {
        load.progress(PROGRESS, &format!("before cut {round}")).await;
        let cut = match round % 3 {
            0 => Cut::Answer,
            1 => Cut::Request,
            _ => Cut::Late(Duration::from_millis(rand::random_range(0..120))),
        };
        proxy.cut(cut).await;
    }
    load.progress(PROGRESS, "at the end").await;
    let mut told = load.stop().await;
    told.check(&Log::read(&scratch.owner_url()).await);
    assert_eq!(told.unknown(), 0, "the service was there all the time, and answers only what it knows");
    told.settle(&service, &scratch.owner_url()).await;
    assert!(service.stop());
}
