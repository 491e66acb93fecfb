//! Small JSON: a record in each request, the next one when the last is answered, on 64 connections.
//! Ours and the bare handler are sent the same bytes by the same connections, and answer as many.

use std::time::{Duration, Instant};

use anyhow::ensure;
use log_bench::load::latency::Latencies;
use log_bench::load::local::own_cpu_s;
use log_bench::report::count;
use log_bench::rounds::in_turn;
use tokio::task::JoinSet;

use crate::Session;
use crate::client::{Client, JSON, request};
use crate::figures::Goal;
use crate::servers::{Bare, Ours, Promise, rest};

const CONNECTIONS: usize = 64;
/// The record of every request.
const BODY: &str = r#"{"key":"user-4711","value":{"event":"purchase","user":4711,"session":"1f3a9c02","item":"tea","amount":129}}"#;
/// The share of the bare handler's requests that ours is to answer.
const SHARE: f64 = 0.5;
const DIGITS: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Bare,
    Ours(Promise),
}

/// What one run showed.
#[derive(Debug)]
struct Run {
    requests_per_second: f64,
    server_cpu_us: f64,
}

pub(crate) async fn measure(session: &mut Session) -> anyhow::Result<()> {
    let (bare, ours) = (Bare::start()?, session.start(&[])?);
    for promise in Promise::BOTH {
        let partitions = session.options.partitions;
        ours.make_topic(promise.name(), partitions, promise).await?;
    }
    let sides = [
        Side::Bare,
        Side::Ours(Promise::Relaxed),
        Side::Ours(Promise::Synced),
    ];
    while let Some(round) = session.rounds.begin("small JSON")? {
        let mut runs = Vec::new();
        for side in in_turn(&sides, round) {
            rest().await;
            runs.push((*side, load(session, *side, &bare, &ours).await?));
        }
        let Some((_, bare)) = runs.iter().find(|(side, _)| *side == Side::Bare) else {
            continue;
        };
        for (side, run) in &runs {
            let Side::Ours(promise) = side else {
                continue;
            };
            let load = format!("small JSON, {} / bare", promise.name());
            let share = run.requests_per_second / bare.requests_per_second;
            session.add(&load, "of its requests/s", Goal::AtLeast(SHARE), share);
            let share = run.server_cpu_us / bare.server_cpu_us;
            session.add(&load, "times its CPU a request", Goal::Told, share);
        }
    }
    Ok(())
}

async fn load(session: &mut Session, side: Side, bare: &Bare, ours: &Ours) -> anyhow::Result<Run> {
    let (name, address, topic) = match side {
        Side::Bare => ("bare", &bare.http, "any"),
        Side::Ours(promise) => (promise.name(), &ours.http, promise.name()),
    };
    let cpu = || match side {
        Side::Bare => bare.cpu_seconds(),
        Side::Ours(_) => ours.broker.cpu_seconds(),
    };
    let path = format!("/v1/topics/{topic}/records");
    let request = request("POST", &path, address, &[JSON], BODY.as_bytes());
    // All of them are there before the first speaks.
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(address).await?);
    }
    let (server_cpu, own_cpu) = (cpu()?, own_cpu_s());
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(session.options.seconds);
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let request = request.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut now = Instant::now();
            while now < until {
                let status = client.exchange(&request).await?;
                ensure!(status == 200, "a record is refused with {status}");
                let answered = Instant::now();
                times.push(answered - now);
                now = answered;
            }
            anyhow::Ok(times)
        });
    }
    let mut latencies = Latencies::new(DIGITS);
    let mut requests = 0_u64;
    while let Some(times) = tasks.join_next().await {
        for time in times?? {
            latencies.add(u64::try_from(time.as_nanos())?, 1);
            requests += 1;
        }
    }
    let requests = count(requests);
    let requests_per_second = requests / began.elapsed().as_secs_f64();
    let microseconds_each = |seconds: f64| seconds * 1e6 / requests;
    let server_cpu_us = microseconds_each(cpu()? - server_cpu);
    let load = format!("small JSON, {name}");
    for (figure, value) in [
        ("requests/s", requests_per_second),
        ("ms, half of them", latencies.percentile_us(50.0) / 1e3),
        ("ms, 99 %", latencies.percentile_us(99.0) / 1e3),
        ("µs of the server's CPU each", server_cpu_us),
        (
            "µs of the load's CPU each",
            microseconds_each(own_cpu_s() - own_cpu),
        ),
    ] {
        session.add(&load, figure, Goal::Told, value);
    }
    Ok(Run {
        requests_per_second,
        server_cpu_us,
    })
}
