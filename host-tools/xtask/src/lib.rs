//! What checks of this workspace are made of: steps with their times, the programs that they
//! need, and the packages that `dist` builds. `xtask` and `sori-system-tests` share it.
#![forbid(unsafe_code)]

pub mod dist;
pub mod sori;
pub mod steps;
pub mod tools;
