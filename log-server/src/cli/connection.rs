//! Which broker a command talks to, and for how long it tries.
//! The arguments that all commands share which talk to a broker, and the clients made from them.

use std::time::Duration;

use clap::Args;
use log_client::admin::Admin;
use log_client::cluster::Cluster;
use log_client::config::ClientConfig;

use super::failure::Outcome;
use super::units::parse_duration;

/// The variable that names the broker.
pub(crate) const BOOTSTRAP_VARIABLE: &str = "STRATALOG_BOOTSTRAP";

/// Where the broker is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectionArgs {
    /// The broker's address; several, separated by commas, are tried in turn
    #[arg(long, short, global = true, visible_alias = "bootstrap-server", value_name = "HOST:PORT", env = BOOTSTRAP_VARIABLE,
        default_value = "127.0.0.1:9092", help_heading = "Connection")]
    pub(crate) bootstrap: String,
    /// How long to try before giving up
    #[arg(long, global = true, value_name = "DURATION", default_value = "15s", value_parser = parse_duration,
        help_heading = "Connection")]
    pub(crate) timeout: Duration,
}

impl ConnectionArgs {
    /// The client's settings.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new(&self.bootstrap);
        "stratalog-cli".clone_into(&mut config.client_id);
        config.api_timeout = self.timeout;
        config.request_timeout = config.request_timeout.min(self.timeout);
        config.connect_timeout = config.connect_timeout.min(self.timeout);
        config
    }

    /// An admin client whose broker has answered once.
    ///
    /// A client tries again while nobody listens; whoever waits at a terminal wants to know at once.
    pub(crate) async fn admin(&self) -> Outcome<Admin> {
        let cluster = Cluster::new(self.config())?;
        cluster.refresh(0).await?;
        Ok(Admin::on(cluster))
    }
}
