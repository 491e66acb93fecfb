//! Followers that are sent nothing: what the broker's own memory has more when all of them are there.
//! Each round has a broker of its own: what earlier connections left in its memory would serve later ones.

use std::time::Duration;

use crate::Session;
use crate::client::{Client, request};
use crate::figures::Goal;
use crate::servers::Promise;

const FOLLOWERS: u32 = 1_000;
const MEBIBYTES: f64 = 50.0;
/// Until nothing moves any more.
const SETTLED: Duration = Duration::from_secs(1);

pub(crate) async fn measure(session: &mut Session) -> anyhow::Result<()> {
    let load = "1,000 idle SSE followers";
    while session.rounds.begin(load)?.is_some() {
        let ours = session.start(&[])?;
        ours.make_topic("idle", 1, Promise::Synced).await?;
        tokio::time::sleep(SETTLED).await;
        let before = ours.anonymous_mebibytes()?;
        let follow = request("GET", "/v1/topics/idle/follow", &ours.http, &[], b"");
        let mut followers = Vec::new();
        for _ in 0..FOLLOWERS {
            let mut follower = Client::connect(&ours.http).await?;
            follower.open_stream(&follow).await?;
            followers.push(follower);
        }
        tokio::time::sleep(SETTLED).await;
        let taken = ours.anonymous_mebibytes()? - before;
        session.add(
            load,
            "MiB of the broker's own memory",
            Goal::AtMost(MEBIBYTES),
            taken,
        );
        session.add(
            load,
            "KiB each",
            Goal::Told,
            taken * 1024.0 / f64::from(FOLLOWERS),
        );
    }
    Ok(())
}
