//! What a package promises: the parts come back as they went in, and bytes that are
//! not a package are refused without harm.

mod bytes;
mod damage;
mod file;
mod format;
mod refusals;
mod round_trip;
mod signature;
mod tiny;
