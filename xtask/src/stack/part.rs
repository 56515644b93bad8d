//! The parts of a stack: their names, how they are started, and when they are ready.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::daemon::{Launch, State};
use super::instance::{Instance, Mode};
use super::probe;
use super::{envoy, keycloak, light, mlflow, redis};
use crate::install;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A server of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The session store.
    Redis,
    /// The OpenID provider.
    Keycloak,
    /// The application.
    Mlflow,
    /// The light stack's provider.
    Provider,
    /// The light stack's application, which returns what it receives.
    Echo,
    /// The gate.
    Envoy,
}

impl Part {
    /// The parts of a stack in starting order. They are stopped in reverse order.
    pub fn of(mode: Mode) -> &'static [Self] {
        match mode {
            Mode::Full => &[Self::Redis, Self::Keycloak, Self::Mlflow, Self::Envoy],
            Mode::Light => &[Self::Redis, Self::Provider, Self::Echo, Self::Envoy],
        }
    }

    /// The name in commands, logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Keycloak => "keycloak",
            Self::Mlflow => "mlflow",
            Self::Provider => "provider",
            Self::Echo => "echo",
            Self::Envoy => "envoy",
        }
    }

    /// The URL for users. The application is reached only through the gate.
    pub fn url(self, instance: &Instance) -> String {
        let ports = &instance.plan.ports;
        match self {
            Self::Redis => format!("redis://127.0.0.1:{}", ports.redis),
            Self::Keycloak | Self::Provider => instance.provider_url(),
            Self::Mlflow | Self::Echo => "through envoy".to_owned(),
            Self::Envoy => {
                format!("{}  (admin http://127.0.0.1:{})", instance.public_url(), ports.envoy_admin)
            }
        }
    }

    /// The ports it listens on.
    pub fn ports(self, instance: &Instance) -> Vec<u16> {
        let ports = &instance.plan.ports;
        match self {
            Self::Redis => vec![ports.redis],
            Self::Keycloak => vec![ports.provider, ports.provider_management],
            Self::Provider => vec![ports.provider],
            Self::Mlflow | Self::Echo => vec![ports.application],
            Self::Envoy => vec![ports.gate, ports.envoy_admin],
        }
    }

    /// How it is started. Writes its configuration.
    pub fn launch(self, workspace: &Workspace, instance: &Instance, progress: &Progress) -> Result<Launch> {
        match self {
            Self::Redis => redis::launch(&install::apt::REDIS.ensure(progress)?, instance),
            Self::Keycloak => {
                keycloak::launch(&install::keycloak::ensure(workspace, progress)?, workspace, instance)
            }
            Self::Mlflow => {
                mlflow::launch(&install::mlflow::ensure(workspace, progress)?, workspace, instance)
            }
            Self::Provider => light::provider(instance),
            Self::Echo => light::echo(instance),
            Self::Envoy => {
                envoy::launch(&install::envoy::CURRENT.ensure(workspace, progress)?, workspace, instance)
            }
        }
    }

    /// Whether it responds.
    pub fn is_ready(self, instance: &Instance) -> bool {
        let ports = &instance.plan.ports;
        let issuer = format!("/realms/{}/.well-known/openid-configuration", super::instance::REALM);
        match self {
            Self::Redis => redis::answers(instance),
            Self::Keycloak => {
                probe::is_ok(ports.provider_management, "/health/ready")
                    && probe::is_ok(ports.provider, &issuer)
            }
            Self::Provider => probe::is_ok(ports.provider, &issuer),
            Self::Mlflow => probe::is_ok(ports.application, "/health"),
            Self::Echo => probe::is_ok(ports.application, "/"),
            Self::Envoy => probe::is_ok(ports.envoy_admin, "/ready"),
        }
    }

    /// Starts it and waits until it is ready, unless exactly this is already running. An outdated process is stopped
    /// first.
    pub fn bring_up(self, workspace: &Workspace, instance: &Instance, progress: &Progress) -> Result<()> {
        let launch = self.launch(workspace, instance, progress)?;
        let daemon = instance.daemon(self);
        if daemon.is_current(&launch)? && self.is_ready(instance) {
            return self.check(instance);
        }
        let task = progress.task(format!("{} starts", self.name()));
        daemon.stop()?;
        daemon.start(&launch)?;
        daemon.wait_until_ready(self.start_bound(), || self.is_ready(instance))?;
        self.check(instance)?;
        if let State::Running(pid) = daemon.state() {
            task.finish(&format!("process {pid}"));
        }
        Ok(())
    }

    /// Checks a running part for problems.
    fn check(self, instance: &Instance) -> Result<()> {
        if self == Self::Keycloak { keycloak::check_client(instance) } else { Ok(()) }
    }

    /// A generous time limit for slow or busy machines. At its first start Keycloak fills its database.
    fn start_bound(self) -> Duration {
        Duration::from_secs(match self {
            Self::Keycloak => 300,
            Self::Mlflow => 180,
            Self::Redis | Self::Provider | Self::Echo | Self::Envoy => 60,
        })
    }
}
