//! The backend that runs a network, and the memory for weights packed for it.

use anyhow::{Result, anyhow};
use clap::Args;
use sori_nn::{Backend, CacheLine, Caches, Prepared};
use sori_package::Package;

use crate::exit::Failure;

/// The option shared by all commands that run a network.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Choice {
    /// Instruction set, or `all` for verify [default: SORI_BACKEND, or the processor's fastest]
    #[arg(long, global = true, value_name = "NAME", value_parser = named)]
    backend: Option<Named>,
}

#[derive(Debug, Clone, Copy)]
enum Named {
    One(Backend),
    All,
}

const ALL: &str = "all";
const VARIABLE: &str = "SORI_BACKEND";

fn named(name: &str) -> Result<Named, String> {
    if name == ALL {
        return Ok(Named::All);
    }
    let names: Vec<_> = Backend::available().map(Backend::name).collect();
    Backend::named(name)
        .map(Named::One)
        .ok_or_else(|| format!("this processor has {}", names.join(", ")))
}

impl Choice {
    /// For commands that run the network once.
    pub(crate) fn one(self) -> Result<Backend> {
        match self.named()? {
            Named::One(backend) => Ok(backend),
            Named::All => Err(anyhow!(Failure::Usage(
                "only verify runs on all backends: name one".into()
            ))),
        }
    }

    /// For commands that may run it on each backend.
    pub(crate) fn several(self) -> Result<Vec<Backend>> {
        Ok(match self.named()? {
            Named::One(backend) => vec![backend],
            Named::All => Backend::available().collect(),
        })
    }

    fn named(self) -> Result<Named> {
        // Not by clap, which rejects a wrong variable even if the option overrides it.
        let variable = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
        match (self.backend, variable) {
            (Some(named), _) => Ok(named),
            (None, Some(name)) => {
                let name = name.to_string_lossy();
                named(&name).map_err(|why| {
                    Failure::Usage(format!("invalid value '{name}' in {VARIABLE}: {why}")).into()
                })
            }
            (None, None) => Ok(Named::One(Backend::detect())),
        }
    }
}

/// Memory for the weights as the backend needs them, filled once per command.
pub(crate) struct Weights(Vec<CacheLine>);

impl Weights {
    pub(crate) fn new(package: &Package<'_>, backend: Backend) -> Self {
        let lines = Prepared::lines(package, backend);
        Self(vec![CacheLine([0; 64]); lines])
    }

    /// Packs the weights; all threads share the result.
    pub(crate) fn prepare<'p>(
        &'p mut self,
        package: &Package<'p>,
        backend: Backend,
    ) -> Result<Prepared<'p>> {
        let prepared = Prepared::new(package, backend, &mut self.0)?;
        Ok(prepared.with_caches(Caches::detect()))
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}
